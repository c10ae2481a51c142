"""Reading and writing published checkpoints: identify, check, fill, export."""
