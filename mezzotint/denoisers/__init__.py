"""Networks: tokens or vectors in, logits out."""
