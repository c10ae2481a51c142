"""Which columns of a block a denoising step decides: the rules of decode/select.py for one row, in numpy.

The default model writes without torch.  A block has a few columns and the drafter a few thousand ids, so this is the
arithmetic of decode/rule.py over `likeliest` or `entropy`, in the same order and the same 32 bits.  W columns, V ids.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mezzotint.denoisers.causal_network import Floats

Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Proposal:
    """The likeliest id of every column of Float[W, V]."""

    tokens: NDArray[np.int64]
    """Int[W], ties to the lowest id."""
    probability: Floats
    """Float[W]."""
    entropy: Floats
    """Float[W], nats."""


BlockRule = Callable[[Proposal, Bools], Bools]
"""A proposal and the open columns, Bool[W] -> the columns to decide, Bool[W]; at least one where any is open."""


def proposal(logits: Floats) -> Proposal:
    """Of Float[W, V]."""
    tokens = logits.argmax(-1)
    behind = logits - np.take_along_axis(logits, tokens[:, None], -1)
    odds = np.exp(behind)
    total = odds.sum(-1)
    # finite, so that a ruled-out id adds 0 times a number and not 0 times infinity
    np.maximum(behind, np.finfo(behind.dtype).min, out=behind)
    return Proposal(tokens, 1 / total, np.log(total) - (behind * odds).sum(-1) / total)


@dataclass(frozen=True, slots=True)
class Threshold:
    """Every column surer than `tau`, and always the surest one (Fast-dLLM, 2505.22618)."""

    tau: float

    def __call__(self, proposed: Proposal, open: Bools) -> Bools:
        sure = proposed.probability > self.tau
        return open & (sure | (_rank(proposed.probability, open) == 0))


@dataclass(frozen=True, slots=True)
class Factor:
    """The most columns n, surest first, with (n + 1) (1 - c_n) < f, and always the surest one (2505.22618)."""

    f: float

    def __call__(self, proposed: Proposal, open: Bools) -> Bools:
        order = _rank(proposed.probability, open)
        # n and 1 - c_n both grow along the ranking, so the condition of a column already holds for all surer ones
        doubt = (order + 2).astype(np.float32) * (1 - proposed.probability)
        return open & ((doubt < self.f) | (order == 0))


@dataclass(frozen=True, slots=True)
class EntropyBound:
    """The longest run of surest columns whose entropies, without the largest, sum to `gamma` nats (2505.24857)."""

    gamma: float

    def __call__(self, proposed: Proposal, open: Bools) -> Bools:
        order = _rank(-proposed.entropy, open)
        nats = np.empty_like(proposed.entropy)
        nats[order] = np.maximum(proposed.entropy, 0)
        # along the ranking a column's own entropy is the largest: the sum of the others is the sum before it
        spent = np.cumsum(nats, dtype=np.float64).astype(np.float32)
        spent = np.concatenate([np.zeros(1, np.float32), spent[:-1]])
        return open & ((spent[order] <= self.gamma) | (order == 0))


@dataclass(frozen=True, slots=True)
class TopK:
    """The `n` surest columns."""

    n: int

    def __call__(self, proposed: Proposal, open: Bools) -> Bools:
        return open & (_rank(proposed.probability, open) < self.n)


def _rank(score: Floats, open: Bools) -> NDArray[np.int64]:
    """Int[W]: 0 for the surest open column, 1 for the next, ...; ties go left; closed columns last."""
    best_first = np.argsort(np.where(open, -score, np.inf), kind="stable")
    order = np.empty_like(best_first)
    order[best_first] = np.arange(len(order))
    return order
