"""Prompt to canvas to text: fixed-shape tensors in, fixed-shape tensors out."""

from mezzotint.extras import require

require("torch", "decoding a published or a trained model")
