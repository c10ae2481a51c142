"""Which undecided columns to commit this step.

A selector maps (score Float[B, W], open Bool[B, W], budget Long[B]) to commit Bool[B, W].  Scores are larger where the
proposal is surer; `budget` is the least number of commits that keeps the plan on time.  Numbers may be floats or
Float[B, 1] tensors, one per request.  Every selector but `Bernoulli` and `by_budget` commits something wherever
something is open.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

Select = Callable[[Tensor, Tensor, Tensor], Tensor]


def most_confident(score: Tensor, open: Tensor, budget: Tensor) -> Tensor:
    """The `budget` surest columns, at least one, Bool[B, W]: low-confidence remasking (LLaDA, 2502.09992, Alg. 5)."""
    return open & (rank(score, open) < budget.clamp_min(1)[:, None])


def leftmost(score: Tensor, open: Tensor, budget: Tensor) -> Tensor:
    """The first `budget` open columns, at least one, Bool[B, W], whatever their score: SDAR's `sequential`."""
    return open & (open.cumsum(-1) <= budget.clamp_min(1)[:, None])


def by_budget(score: Tensor, open: Tensor, budget: Tensor) -> Tensor:
    """The `budget` surest columns, none where the budget is zero, Bool[B, W]: Dream's schedule."""
    return open & (rank(score, open) < budget[:, None])


@dataclass(frozen=True)
class Top:
    """The `n` surest columns, Bool[B, W], whatever the plan's budget says."""

    n: int | Tensor = 1

    def __call__(self, score: Tensor, open: Tensor, budget: Tensor) -> Tensor:
        order = rank(score, open)
        least = self.n.clamp_min(1) if isinstance(self.n, Tensor) else max(self.n, 1)
        return open & (order < least)


@dataclass(frozen=True)
class Above:
    """Every column surer than `tau`, and always the surest one, Bool[B, W] (Fast-dLLM, 2505.22618)."""

    tau: float | Tensor = 0.9
    always: bool = True
    """Without it, perhaps none: for `OnTime`."""

    def __call__(self, score: Tensor, open: Tensor, budget: Tensor) -> Tensor:
        sure = score > self.tau
        return open & (sure | (rank(score, open) == 0) if self.always else sure)


@dataclass(frozen=True)
class Factor:
    """The most columns n, surest first, with (n + 1) (1 - c_n) < f, and always the surest one (2505.22618).

    Bool[B, W].
    """

    f: float | Tensor = 1.0
    lenient: bool = False
    """Take the least sure column too where it alone fails, as the published loop does and the paper does not."""

    def __call__(self, score: Tensor, open: Tensor, budget: Tensor) -> Tensor:
        order = rank(score, open)
        # n and 1 - c_n both grow along the ranking, so the condition of a column already holds for all surer ones
        passed = open & (((order + 2) * (1 - score) < self.f) | (order == 0))
        if self.lenient:
            passed = passed | (open & ((open & ~passed).sum(-1, keepdim=True) == 1))
        return passed


@dataclass(frozen=True)
class EntropyBound:
    """The longest run of surest columns whose entropies, without the largest, sum to at most `gamma` nats; Bool[B, W].

    The sum bounds the dependence that writing the columns independently ignores (EB-sampler, 2505.24857).  Needs scores
    that are minus an entropy: `propose.entropy`, or `Draw(score=negative_entropy)`.
    """

    gamma: float | Tensor = 0.1
    inclusive: bool = False
    """Count the largest entropy too, as SDAR's `entropy_bounded` does."""

    def __call__(self, score: Tensor, open: Tensor, budget: Tensor) -> Tensor:
        order = rank(score, open)
        nats = torch.zeros_like(score).scatter(-1, order, (-score).clamp_min(0))
        total = nats.cumsum(-1)
        # the sum of the others is the sum so far: along the ranking a column's own entropy is the largest
        spent = total if self.inclusive else F.pad(total[..., :-1], (1, 0))
        return open & ((spent <= self.gamma).gather(-1, order) | (order == 0))


@dataclass(frozen=True)
class Near:
    """What `select` commits, and columns surer than `near` within `reach` of one that is surer than `anchor`.

    Bool[B, W]; LocalLeap (2510.07081).  Anchors are those of the step's commits, or with `every` all open columns that
    are sure enough, as in the paper.
    """

    select: Select = most_confident
    anchor: float | Tensor = 0.9
    near: float | Tensor = 0.75
    reach: int = 4
    every: bool = False

    def __call__(self, score: Tensor, open: Tensor, budget: Tensor) -> Tensor:
        base = self.select(score, open, budget)
        anchors = (open if self.every else base) & (score >= self.anchor)
        around = F.max_pool1d(anchors[:, None].float(), 2 * self.reach + 1, 1, self.reach)[:, 0] > 0
        return base | (open & around & (score >= self.near))


@dataclass(frozen=True)
class Leftward:
    """Another selector, for scores that lose `penalty` per column of distance from the first open one (WeDLM).

    Bool[B, W].
    """

    select: Select
    penalty: float = 0.02

    def __call__(self, score: Tensor, open: Tensor, budget: Tensor) -> Tensor:
        columns = torch.arange(open.shape[-1], device=open.device)
        first = torch.where(open, columns, open.shape[-1]).amin(-1, keepdim=True)
        return self.select(score - self.penalty * (columns - first), open, budget)


@dataclass(frozen=True)
class Bernoulli:
    """Each column by itself with probability `chance`, perhaps none: the ancestral sampler (MDLM, 2406.07524).

    Bool[B, W].  Needs scores that are uniform in (0, 1) and independent of everything else: `RandomOrder(propose)`.
    The chance of a step is `reveal(a_t, a_s)`; `rule.ancestral` puts the parts together.
    """

    chance: float | Tensor

    def __call__(self, score: Tensor, open: Tensor, budget: Tensor) -> Tensor:
        return open & (score < self.chance)


def reveal(a_t: Tensor, a_s: Tensor, sigma: float | Tensor = 0.0) -> Tensor:
    """Float[B, 1]: how likely a masked column is revealed between survivals a_t < a_s (ReMDM, 2503.00307).

    `sigma` is the chance with which decided columns are masked again in the same step; 0 is MDLM.
    """
    return (a_s - (1 - sigma) * a_t) / (1 - a_t)


@dataclass(frozen=True)
class OnTime:
    """What `select` commits, filled up with the surest to the plan's budget: SDAR's `low_confidence_dynamic`.

    Bool[B, W].
    """

    select: Select
    least: Select = most_confident
    """Fills up to the budget; `by_budget` keeps budgets of zero."""

    def __call__(self, score: Tensor, open: Tensor, budget: Tensor) -> Tensor:
        return self.select(score, open, budget) | self.least(score, open, budget)


@dataclass(frozen=True)
class AtMost:
    """Of what `select` commits, no more than the budget's surest: Fast-dLLM's threshold for Dream (2505.22618).

    Bool[B, W].
    """

    select: Select

    def __call__(self, score: Tensor, open: Tensor, budget: Tensor) -> Tensor:
        return self.select(score, open, budget) & most_confident(score, open, budget)


def rank(score: Tensor, open: Tensor) -> Tensor:
    """Long[B, W]: 0 for the surest open column of a row, 1 for the next, ...; ties go left; closed columns last."""
    # an open column may score -inf, and must still come before the closed ones
    held = torch.where(open, score.clamp_min(torch.finfo(score.dtype).min), -torch.inf)
    best_first = held.argsort(dim=-1, descending=True, stable=True)
    places = torch.arange(held.shape[-1], device=held.device).expand_as(best_first)
    return torch.empty_like(best_first).scatter_(-1, best_first, places)
