"""What a drafter offers to decoding, whatever runs it."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mezzotint.denoisers.causal_network import Floats

OTHERS = 128
"""Most ids that are drafted because the context met them."""


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
        """Plain values, for a file's metadata."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "DrafterShape":
        """The sizes of `to_dict`; names that it does not know are left out."""
        known = {f.name for f in fields(cls)}
        sizes: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items() if k in known}
        return cls(**sizes)


@dataclass(frozen=True, slots=True)
class TreeLimits:
    """How far a tree of drafts may grow."""

    nodes: int
    """Most nodes of a depth."""
    gate: float
    """Least chance, by the drafter, of a node."""
    fan: int
    """Candidates per node."""
    beam: int
    """Nodes of a depth that are drafted on."""


class DraftNetwork(Protocol):
    """A drafter with the store of its context rows; see denoisers/networks/drafter.py for what rows and states are."""

    shape: DrafterShape
    ids: NDArray[np.int64]
    """Int[D]: the ids that may always be drafted.  `top`, `follow` and `branches` also draft others that the settled
    context has met, the last OTHERS of them: names, and words of the matter at hand."""

    def another(self) -> "DraftNetwork":
        """The same weights with a store of its own, for another text."""
        ...

    def length(self) -> int:
        """Settled context rows."""
        ...

    def truncate(self, length: int) -> None:
        """Forget all but the first `length` context rows.

        Raises:
            CapacityError: there are fewer.
        """
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
        """`advance`, and then `top` of the new states: Float[m, width], Int[m, k], Float[m, k]."""
        ...

    def chain(self, state: Floats, rows: Floats, decided: Sequence[int], gate: float = 0.0) -> Floats:
        """Logits of a draft's columns, Float[m, D]; m is n + 1, or less where the draft ends in doubt.

        Args:
            state: Float[width], what drafts column 0.
            rows: Float[n, width], block rows of columns 1, 2, ...
            decided: tokens of columns 0 to n - 1 or -1; an open column passes for its likeliest token.
            gate: no column is drafted after the one at which the product of the likeliest tokens' probabilities, up to
                it, falls below this.

        Raises:
            CapacityError: not as many decided tokens as rows.
        """
        ...

    def branches(self, state: Floats, rows: Floats, growth: TreeLimits) -> tuple[list[int], list[int], list[float]]:
        """A tree of drafts: tokens, parents and chances of its nodes, parents first.

        Node i of the lists is node i + 1 of the tree; node 0 is its root, the token before the draft.  A chance is that
        of the whole path.

        Args:
            state: Float[width], what drafts depth 1.
            rows: Float[n, width], block rows of depths 2, 3, ..., n + 1.
            growth: its limits.

        Raises:
            CapacityError: limits beyond what the drafter can run.
        """
        ...


def chain(drafter: DraftNetwork, state: Floats, rows: Floats, decided: Sequence[int], gate: float = 0.0) -> Floats:
    """`DraftNetwork.chain` step by step: Float[m, D] from a state Float[width] and rows Float[n, width]."""
    out, state, chance = [drafter.logits(state[None])[0]], state[None], 1.0
    for row, token in zip(rows, decided, strict=True):
        chance /= float(np.exp(out[-1] - out[-1].max()).sum())
        if chance < gate:
            break
        previous = token if token >= 0 else int(drafter.ids[out[-1].argmax()])
        state = drafter.advance(row[None], [previous], state)
        out.append(drafter.logits(state)[0])
    return np.stack(out)


def branches(
    drafter: DraftNetwork, state: Floats, rows: Floats, growth: TreeLimits
) -> tuple[list[int], list[int], list[float]]:
    """`DraftNetwork.branches` step by step, from a state Float[width] and rows Float[n, width]."""
    tokens: list[int] = []
    parents: list[int] = []
    scores: list[float] = []
    front, chances, states = [0], [1.0], state[None]
    ids, logp = drafter.top(states, growth.fan)
    for depth in range(len(rows) + 1):
        found = [
            (p, i, token)
            for i, chance in enumerate(chances)
            for token, p in zip(ids[i].tolist(), (np.exp(logp[i]) * chance).tolist(), strict=True)
            if p >= growth.gate
        ]
        found = sorted(found, reverse=True)[: growth.nodes]
        made = range(len(tokens) + 1, len(tokens) + 1 + len(found))
        for p, i, token in found:
            tokens.append(token)
            parents.append(front[i])
            scores.append(p)
        going = found[: growth.beam]
        if not going or depth == len(rows):
            break
        before, previous = states[[i for _, i, _ in going]], [token for _, _, token in going]
        states, ids, logp = drafter.follow(np.repeat(rows[depth][None], len(going), 0), previous, before, growth.fan)
        front, chances = list(made)[: growth.beam], [p for p, _, _ in going]
    return tokens, parents, scores
