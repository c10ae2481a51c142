"""Which noise levels a batch is trained at.

A time sampler maps (batch, rng) to t, Float[B, 1] or Float[B, L] in (0, 1].  Draws are spread evenly over the interval,
which lowers the variance of the loss at no cost (VDM, 2107.00630, App. I.1); each one alone is uniform.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from mezzotint.batch import Batch
from mezzotint.rng import Rng
from mezzotint.schedules import Survival

Times = Callable[[Batch, Rng], Tensor]

_TIMES = 0x71AE5  # forks the caller's noise, so times and corruption never share a number
_SHIFT = 0x61DD


def whole(batch: Batch, rng: Rng) -> Tensor:
    """Float[B, 1]: one time per sequence, spread over the batch."""
    rows = batch.tokens.shape[0]
    return _spread(rows, rng, batch.tokens.device)[:, None]


def everything(batch: Batch, rng: Rng) -> Tensor:
    """Float[B, 1]: always 1, where nothing of a text is left."""
    return torch.ones(batch.tokens.shape[0], 1, device=batch.tokens.device)


@dataclass(frozen=True)
class PerBlock:
    """Float[B, L]: one time per block of `block` columns, spread over all blocks of the batch (2503.09573)."""

    block: int

    def __call__(self, batch: Batch, rng: Rng) -> Tensor:
        rows, columns = batch.tokens.shape
        blocks = -(-columns // self.block)
        times = _spread(rows * blocks, rng, batch.tokens.device).reshape(rows, blocks)
        return times.repeat_interleave(self.block, 1)[:, :columns]


@dataclass(frozen=True)
class Stratified:
    """Float[B, 1]: one time per cell of [eps, 1], each at its own place in its cell.

    MDLM's code calls it antithetic; `whole` moves all cells by one common number instead.
    """

    eps: float = 1e-3
    """The smallest time."""

    def __call__(self, batch: Batch, rng: Rng) -> Tensor:
        return strata(batch.tokens.shape[0], rng, batch.tokens.device, self.eps).float()[:, None]


@dataclass(frozen=True)
class BlockStrata:
    """Float[B, L]: `Stratified` over all blocks of `block` columns of the batch, in [low, high] (2503.09573)."""

    block: int
    low: float = 1e-3
    high: float = 1.0

    def __call__(self, batch: Batch, rng: Rng) -> Tensor:
        rows, columns = batch.tokens.shape
        blocks = -(-columns // self.block)
        times = strata(rows * blocks, rng, batch.tokens.device, self.low, self.high).float()
        return times.reshape(rows, blocks).repeat_interleave(self.block, 1)[:, :columns]


@dataclass(frozen=True)
class DiscreteTimes:
    """Times of `inner` moved up to the next of 1/T, 2/T, ..., 1, of the shape of `inner`'s: a chain of T steps."""

    inner: Times
    steps: int

    def __call__(self, batch: Batch, rng: Rng) -> Tensor:
        return (self.inner(batch, rng) * self.steps).ceil().clamp_min(1) / self.steps


@dataclass(frozen=True)
class Importance:
    """Times of `inner` mapped so that every time weighs the same in the bound of a masked family; shape of `inner`'s.

    The log of the masked share then falls linearly, from its value at t = 1 to that of total noise `least`: MDLM's
    code calls it importance sampling; drawing the masked share itself is its "change of variables".
    """

    inner: Times
    schedule: Survival
    least: float = 1e-3
    """Total noise, -log alpha, at the smallest time."""

    def __call__(self, batch: Batch, rng: Rng) -> Tensor:
        return self.mapped(self.inner(batch, rng))

    def mapped(self, t: Tensor) -> Tensor:
        """The time that a uniform time stands for; shape of t."""
        last = torch.log(1 - self.schedule.alpha(torch.ones_like(t)))
        share = torch.exp(t * last - (1 - t) * self.weight)
        return self.schedule.time(1 - share)

    @property
    def weight(self) -> float:
        """What each masked column's cross-entropy counts for, as published; exactly it is a share of `least` less."""
        return -math.log(-math.expm1(-self.least))


@dataclass(frozen=True)
class Levels:
    """Times at which 1 - alpha is as spread as the times of `inner`: levels of noise count alike in any schedule.

    Float32 of the shape of `inner`'s.
    """

    inner: Times
    schedule: Survival

    def __call__(self, batch: Batch, rng: Rng) -> Tensor:
        return self.schedule.time(1 - self.inner(batch, rng).double()).float()


@dataclass(frozen=True)
class Squared:
    """Times of `inner` squared: more of them near the clean end, where little is missing and weighs much.

    Shape of `inner`'s.  A loss whose spread grows there as 1 / sqrt(t) has the least error of its mean when it is
    drawn so and each draw counts `spread` of its time.
    """

    inner: Times

    def __call__(self, batch: Batch, rng: Rng) -> Tensor:
        return self.inner(batch, rng) ** 2


@dataclass(frozen=True)
class Clipped:
    """Times of `inner` squeezed into [low, high]: fewer nearly clean and nearly empty blocks (2503.09573, sec. 4.2).

    Shape of `inner`'s.  The loss is then no bound on the likelihood; evaluate with `inner` itself.
    """

    inner: Times
    low: float
    high: float

    def __call__(self, batch: Batch, rng: Rng) -> Tensor:
        return self.low + (self.high - self.low) * self.inner(batch, rng)


@dataclass(frozen=True)
class EvenTimes:
    """Float[B, 1]: times spread evenly over [eps, 1 - eps], all moved on by one uniform draw."""

    eps: float

    def __call__(self, batch: Batch, rng: Rng) -> Tensor:
        device = batch.tokens.device
        return self.at(len(batch.tokens), rng.fork(_SHIFT).uniform((len(batch.tokens),), device)[:1])[:, None]

    def at(self, rows: int, shift: Tensor) -> Tensor:
        """Float64[rows] for a shift Float64[1]."""
        cells = torch.arange(rows, device=shift.device, dtype=torch.float64) / rows
        return self.eps + (1 - 2 * self.eps) * ((cells + shift) % 1)


def spread(t: Tensor) -> Tensor:
    """What a time of `Squared` counts: one over its density, 2 sqrt(t); shape of t."""
    return 2 * t.sqrt()


def strata(count: int, rng: Rng, device: torch.device, low: float = 1e-3, high: float = 1.0) -> Tensor:
    """Float64[count]: a uniform number in each of `count` equal cells of [low, high], in order."""
    own = rng.fork(_TIMES).uniform((count,), device)
    return low + (high - low) * (own + torch.arange(count, device=device)) / count


def _spread(count: int, rng: Rng, device: torch.device) -> Tensor:
    """Float32[count] in (0, 1]: evenly spaced, all moved on by one uniform draw, so each is uniform by itself."""
    rows = rng.seed.shape[0] if isinstance(rng.seed, Tensor) else 1
    shift = rng.fork(_TIMES).uniform((rows,), device)[0]
    cells = torch.arange(count, device=device, dtype=torch.float64) / count
    return (1 - (cells + shift) % 1).float()
