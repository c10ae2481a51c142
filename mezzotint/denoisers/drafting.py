"""What a drafter offers to decoding, whatever runs it."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from mezzotint.denoisers.causal import Floats
from mezzotint.denoisers.drafter import DrafterShape


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
