"""What a drafter offers to decoding, whatever runs it."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mezzotint.denoisers.causal import Floats


@dataclass(frozen=True)
class DrafterShape:
    """Sizes; the first seven are those of the causal network."""

    width: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    theta: float
    eps: float
    layers: int = 2
    taps: tuple[int, ...] = (10, 20, 30)
    """Layers of the causal network after which its residual stream is read."""
    block: int = 4
    """Masked rows per anchor in training."""
    window: int = 128
    """Context rows that a row sees, itself included."""
    mixer: int = 1152
    """Hidden channels of the recurrent head."""

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "DrafterShape":
        known = {f.name for f in fields(cls)}
        sizes: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items() if k in known}
        return cls(**sizes)


class Drafting(Protocol):
    """A drafter with the store of its context rows; see denoisers/drafter.py for what rows and states are."""

    shape: DrafterShape
    ids: NDArray[np.int64]
    """Int[D]: the ids that may be drafted."""
    place: NDArray[np.int64]
    """Int[V]: where an id stands in `ids`, -1 where it does not."""

    def length(self) -> int:
        """Settled context rows."""
        ...

    def truncate(self, length: int) -> None:
        """Forget all but the first `length` context rows."""
        ...

    def read(self, taps: Floats, following: Sequence[int], block: int = 0) -> tuple[Floats, Floats]:
        """Settle context rows and look at a block of masks after them.

        Args:
            taps: Float[n, taps, width] of n >= 1 newly settled tokens of the causal network.
            following: the token after each of them.
            block: block rows wanted.

        Returns:
            Float[width], state of the last context row, which drafts the first token; Float[block, width], block rows.
        """
        ...

    def look(self, known: Sequence[int]) -> Floats:
        """Block rows after the settled context, Float[len(known), width].

        Args:
            known: the decided token after each row, or -1.
        """
        ...

    def advance(self, rows: Floats, previous: Sequence[int], state: Floats) -> Floats:
        """Float[m, width] states of the next drafted tokens from their rows, the tokens before and their states."""
        ...

    def logits(self, state: Floats) -> Floats:
        """Float[m, width] -> Float[m, D]."""
        ...

    def top(self, state: Floats, k: int) -> tuple[NDArray[np.int64], Floats]:
        """The k likeliest tokens of each state, Int[m, k], and their log-probabilities, Float[m, k]."""
        ...

    def follow(
        self, rows: Floats, previous: Sequence[int], state: Floats, k: int
    ) -> tuple[Floats, NDArray[np.int64], Floats]:
        """`advance`, and then `top` of the new states."""
        ...
