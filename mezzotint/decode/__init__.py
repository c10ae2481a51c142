"""Prompt to canvas to text: fixed-shape tensors in, fixed-shape tensors out."""
