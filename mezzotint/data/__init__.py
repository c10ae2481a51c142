"""Text in and out: tokenizers, chat templates, streams of training data."""
