"""Which range of masked shares to train blocks at: the one whose loss varies least (BD3LM, 2503.09573, sec. 4.2)."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from mezzotint.batch import Batch
from mezzotint.objectives.base import Objective
from mezzotint.rng import Rng

Range = tuple[float, float]
"""The smallest and the largest masked share of a block."""

RANGES: tuple[Range, ...] = tuple(
    (max(start / 20, 1e-3), min((start + width) / 20, 1.0))
    for width in (10, 12, 14, 16, 18)
    for start in range(20 - width + 1)
)
"""The published candidates: widths 0.5 to 0.9 at every 0.05."""


@torch.no_grad()
def variance(objective: Objective, denoiser: Any, batches: Iterable[Batch], block: int, rng: Rng) -> Tensor:
    """The variance of a block's mean loss over the blocks of a batch, averaged over batches: a scalar, in nats^2.

    `objective` must give its loss per token, and its columns be a whole number of blocks.  Batch k uses fork k of
    `rng`.
    """
    found = []
    for number, batch in enumerate(batches):
        nats = objective(denoiser, batch, rng.fork(number)).per_token
        if nats is None:
            raise TypeError("this objective does not say what a token costs")
        found.append(nats.reshape(nats.shape[0], -1, block).mean(-1).var())
    return torch.stack(found).mean()
