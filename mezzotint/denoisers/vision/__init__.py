"""Parts of models that see."""
