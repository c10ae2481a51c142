"""Parts of models that see."""

from mezzotint.extras import require

require("torch", "a model that sees")
