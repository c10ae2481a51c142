"""The networks, one architecture per module."""
