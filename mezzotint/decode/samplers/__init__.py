"""Steps from noise to text along a time grid, one module per sampler."""
