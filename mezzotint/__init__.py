"""mezzotint: diffusion language models, every family, one way through."""
