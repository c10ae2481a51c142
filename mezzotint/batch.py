"""Sequences to learn from: what data makes and objectives read."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(slots=True)
class Batch:
    """Sequences to learn from."""

    tokens: Tensor
    """Long[B, L]."""
    target: Tensor
    """Bool[B, L]: may be corrupted and is trained on; an answer, not its prompt or padding."""
