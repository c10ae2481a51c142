"""Measuring: how well a model writes, how fast, and how far a backend is from its reference."""
