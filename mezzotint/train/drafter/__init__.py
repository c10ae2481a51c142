"""Training the default model's drafter on the base model's own answers."""
