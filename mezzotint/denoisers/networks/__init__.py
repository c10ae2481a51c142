"""The networks, one architecture per module."""

from mezzotint.extras import require

require("torch", "a network in torch")
