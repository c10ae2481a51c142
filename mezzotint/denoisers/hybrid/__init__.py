"""The drafter of the default model: its file, and the torch backend."""
