"""Absorbing noise whose masked share per block stays within limits (BD3LM, 2503.09573, sec. 4.2)."""

import math

import torch
from torch import Tensor

from mezzotint.errors import ConfigError
from mezzotint.processes.absorbing import Absorbing
from mezzotint.rng import Rng

_COUNT = 0xB10C


class Resampled(Absorbing):
    """Absorbing, given that between the shares `low` and `high` of each block are masked.

    It has the distribution of masking again until the limits hold, without a loop: the number of masks is a binomial
    between the limits, and which columns they are is even.  Training only: the loss is no bound then.
    """

    def __init__(self, inner: Absorbing, block: int, low: float, high: float) -> None:
        """Limits of at most 1e-3 and at least 1 are none, as published.

        Raises:
            ConfigError: no number of masks of a block lies between the limits.
        """
        super().__init__(inner.vocab, inner.mask_id, inner.schedule)
        self.block = block
        self.least, self.most = _limits(block, low, high)
        if not fits(block, low, high):
            raise ConfigError(
                f"no number of masks in a block of {block} is between the shares {low} and {high}: take a wider range"
            )

    def corrupt(self, x_0: Tensor, t: Tensor, rng: Rng) -> Tensor:
        """Long[B, L]; t is one number per block, L a whole number of blocks."""
        rows, columns = x_0.shape
        blocks = columns // self.block
        gone = 1 - self.alpha(t).expand(rows, columns)[:, :: self.block]
        count = self._count(gone.double(), rng.fork(_COUNT).uniform((rows, blocks), x_0.device))
        order = rng.uniform((rows, columns), x_0.device).reshape(rows, blocks, self.block).argsort(-1).argsort(-1)
        return x_0.masked_fill((order < count[..., None]).reshape(rows, columns), self.mask_id)

    def _count(self, gone: Tensor, mark: Tensor) -> Tensor:
        """Long[B, blocks]: a binomial number between the limits, by inverting its running sum at `mark`."""
        k = torch.arange(self.least, self.most + 1, device=gone.device, dtype=gone.dtype)
        block = torch.tensor(float(self.block), dtype=gone.dtype, device=gone.device)
        ways = (block + 1).lgamma() - (k + 1).lgamma() - (block - k + 1).lgamma()
        p = gone[..., None].clamp(1e-12, 1 - 1e-12)
        chance = (ways + k * p.log() + (block - k) * torch.log1p(-p)).softmax(-1)
        return self.least + (chance.cumsum(-1) < mark[..., None]).sum(-1).clamp(max=len(k) - 1)


def fits(block: int, low: float, high: float) -> bool:
    """Whether some number of masks of a block is between the shares."""
    least, most = _limits(block, low, high)
    return least <= most


def _limits(block: int, low: float, high: float) -> tuple[int, int]:
    # the margin keeps a share such as 0.3 of 10 from being lost to rounding
    least = math.ceil(low * block - 1e-9) if low > 1e-3 else 0
    return least, math.floor(high * block + 1e-9) if high < 1 else block
