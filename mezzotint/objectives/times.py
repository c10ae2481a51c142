"""Which noise levels a batch is trained at.

A time sampler maps (batch, rng) to t, Float[B, 1] or Float[B, L] in (0, 1].  Draws are spread evenly over the interval,
which lowers the variance of the loss at no cost (VDM, 2107.00630, App. I.1); each one alone is uniform.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from mezzotint.batch import Batch
from mezzotint.rng import Rng

Times = Callable[[Batch, Rng], Tensor]

_TIMES = 0x71AE5  # forks the caller's noise, so times and corruption never share a number


def whole(batch: Batch, rng: Rng) -> Tensor:
    """Float[B, 1]: one time per sequence, spread over the batch."""
    rows = batch.tokens.shape[0]
    return _spread(rows, rng, batch.tokens.device)[:, None]


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
class Clipped:
    """Times of `inner` squeezed into [low, high]: fewer nearly clean and nearly empty blocks (2503.09573, sec. 4.2).

    The loss is then no bound on the likelihood; evaluate with `inner` itself.
    """

    inner: Times
    low: float
    high: float

    def __call__(self, batch: Batch, rng: Rng) -> Tensor:
        return self.low + (self.high - self.low) * self.inner(batch, rng)


def _spread(count: int, rng: Rng, device: torch.device) -> Tensor:
    """Float32[count] in (0, 1]: evenly spaced, all moved on by one uniform draw, so each is uniform by itself."""
    rows = rng.seed.shape[0] if isinstance(rng.seed, Tensor) else 1
    shift = rng.fork(_TIMES).uniform((rows,), device)[0]
    cells = torch.arange(count, device=device, dtype=torch.float64) / count
    return (1 - (cells + shift) % 1).float()
