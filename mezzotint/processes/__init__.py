"""Processes: q(x_t | x_0), prior and posterior; the mathematics, held by invariants."""

from mezzotint.extras import require

require("torch", "training")
