"""Objectives: everything with the type (denoiser, batch, rng) -> Loss."""

from mezzotint.extras import require

require("torch", "training")
