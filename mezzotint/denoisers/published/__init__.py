"""Reading and writing published checkpoints: identify, check, fill, export."""

from mezzotint.extras import require

require("torch", "a published model")
