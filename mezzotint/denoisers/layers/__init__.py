"""What several networks are made of."""

from mezzotint.extras import require

require("torch", "a network in torch")
