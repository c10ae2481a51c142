"""Published ways of decoding, one module per method, and their registry."""
