"""Masks that hide an exact number of a block's columns, where training decides the number and not each column's fate.

Absorbing noise masks each column by itself; the number of masks then varies with equal shares.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from mezzotint.rng import Rng

Choose = Callable[[Tensor, Rng], Tensor]
"""(t Float[B, L], the share of each column's block that is masked; rng) -> Bool[B, L], the masked columns."""


@dataclass(frozen=True)
class Exactly:
    """round(t n) of the n columns of every block: a draw without replacement (WeDLM, 2512.22737).

    Times Float[B, L] give masks Bool[B, L].  With `half_life`, a column's weight in the draw doubles within that share
    of a block, the more so the fewer columns are masked: weights exp(lambda (1 - t) i), lambda = ln 2 / (half_life n)
    (Efficient-DLM, 2512.14067).  The last masks then stand at the block's end, as they do when text is written; with
    everything masked all columns are alike.
    """

    block: int
    half_life: float | None = None

    def __call__(self, t: Tensor, rng: Rng) -> Tensor:
        rows, columns = t.shape
        at = torch.arange(columns, device=t.device)
        size = (columns - at // self.block * self.block).clamp_max(self.block)
        # the largest of log-weights with Gumbel noise are a draw without replacement
        score = rng.gumbel((rows, columns), t.device)
        if self.half_life is not None:
            score = score + math.log(2) / (self.half_life * size) * (1 - t.double()) * (at % self.block)
        lacking = -columns % self.block
        score = torch.nn.functional.pad(score, (0, lacking), value=-torch.inf).unflatten(1, (-1, self.block))
        place = score.argsort(-1, descending=True).argsort(-1).flatten(1)[:, :columns]
        return place < (t.double() * size).round()
