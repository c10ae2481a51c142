"""Engines: requests in, events out."""
