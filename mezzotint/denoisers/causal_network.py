"""What the decoder of a causal network offers to decoding: passes over a few rows on top of settled tokens.

A row is a token at a position of a lane (one sequence).  It sees the settled tokens of its lane and those rows of the
same pass that its bit mask names, itself included.  Nothing is settled until `commit`.
"""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


class CausalNetwork(Protocol):
    """A causal network with its key/value store."""

    vocab: int
    width: int
    capacity: int
    """Most tokens of a lane."""
    invariant: bool
    """Whether a row's bits are the same whatever rows stand beside it in a call of `logits`."""

    def length(self, lane: int = 0) -> int:
        """Settled tokens of a lane."""
        ...

    def truncate(self, length: int, lane: int = 0) -> None:
        """Forget all but the first `length` settled tokens of a lane.

        Raises:
            CapacityError: there are fewer.
        """
        ...

    def commit(self, rows: Sequence[int], lane: int = 0) -> None:
        """Settle rows of the last pass, in this order, as the next tokens of a lane.

        Raises:
            CapacityError: the store is full, or the last pass had no such row.
        """
        ...

    def run(
        self,
        tokens: Sequence[int],
        positions: NDArray[Any],
        sees: NDArray[Any],
        lanes: NDArray[Any] | None = None,
        taps: Sequence[int] = (),
    ) -> tuple[Floats, Floats]:
        """Residual stream Float[n, width] after the last layer, and after each of `taps` layers, Float[n, taps, width].

        Args:
            tokens: n ids.
            positions: Int[n].
            sees: UInt64[n]; bit j of entry i: row i sees row j.
            lanes: Int[n]; None for lane 0.
            taps: numbers of layers.

        Raises:
            CapacityError: more rows than a pass takes, or positions or lanes beyond the store.
        """
        ...

    def logits(self, hidden: Floats) -> Floats:
        """Float[n, width] -> Float[n, vocab], valid until the next call: copy what must last longer."""
        ...


def chain(n: int) -> NDArray[np.uint64]:
    """Masks Uint64[n] of n rows in a row: each sees itself and those before."""
    return np.array([(1 << (i + 1)) - 1 for i in range(n)], np.uint64)


def tree(parents: Sequence[int]) -> tuple[NDArray[np.int32], NDArray[np.uint64]]:
    """Depths Int[n] and masks Uint64[n] of a tree of n rows; parents[i] < i, or -1 for a root."""
    depth: list[int] = []
    sees: list[int] = []
    for i, parent in enumerate(parents):
        depth.append(depth[parent] + 1 if parent >= 0 else 0)
        sees.append((sees[parent] if parent >= 0 else 0) | 1 << i)
    return np.array(depth, np.int32), np.array(sees, np.uint64)


def advance(
    network: CausalNetwork, tokens: Sequence[int], lanes: Sequence[int], taps: Sequence[int] = ()
) -> tuple[Floats, Floats]:
    """Read and settle a token in each of these lanes; residual stream Float[n, width], taps Float[n, taps, width]."""
    at = np.array([network.length(lane) for lane in lanes])
    sees = np.uint64(1) << np.arange(len(lanes), dtype=np.uint64)
    out = network.run(tokens, at, sees, np.array(lanes, np.int32), taps)
    for row, lane in enumerate(lanes):
        network.commit([row], lane)
    return out


def prefill(
    network: CausalNetwork, tokens: Sequence[int], taps: Sequence[int] = (), lane: int = 0, chunk: int = 64
) -> tuple[Floats, Floats]:
    """Read and settle a prompt; residual stream Float[n, width] and taps Float[n, taps, width] of all its tokens."""
    hidden, tapped = [], []
    for at in range(0, len(tokens), chunk):
        part = tokens[at : at + chunk]
        start = network.length(lane)
        lanes = np.full(len(part), lane, np.int32)
        out = network.run(part, start + np.arange(len(part)), chain(len(part)), lanes, taps)
        network.commit(range(len(part)), lane)
        hidden.append(out[0])
        tapped.append(out[1])
    return np.concatenate(hidden), np.concatenate(tapped)
