"""Painting a canvas in a terminal."""
