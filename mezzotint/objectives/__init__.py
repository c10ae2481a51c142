"""Objectives: everything with the type (denoiser, batch, rng) -> Loss."""
