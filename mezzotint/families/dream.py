"""Dream: a causal model turned into a diffusion model (Ye et al. 2025, arXiv 2508.15487); Dream-Coder, DiffuCoder.

Process   processes/absorbing.py; a share t of the columns is masked
Loss      CART: a masked column counts for how many columns near it are visible, by a geometric kernel; a mean over
          masked columns (objectives/masked_cross_entropy.py)
Network   full attention, logits one column early: denoisers/published/open.py undoes the shift,
          denoisers/published/add_mask.py in training; the first column is never noised
Sampler   the surest columns by entropy, budgets of shrinking times; tokens at temperature 0.2 and top-p 0.95 are the
          preset `dream-ref` of decode/methods/presets.py, per-column chance is `dream-origin`; DreamOn's blanks are
          `dreamon`, decode/methods/dreamon.py
Not so    the published loop takes the number of columns to write from the mean over the batch, so that rows change each
          other; here every row has its own
Checked   tests/parity/test_dream.py (logits), test_dream_generation.py; tests/families/test_published.py (weights)
"""

from dataclasses import dataclass
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from mezzotint.config import config
from mezzotint.families.base import Family
from mezzotint.objectives.masked_cross_entropy import Counted, inverse, per_masked
from mezzotint.objectives.times import Clipped, whole
from mezzotint.processes.absorbing import Absorbing
from mezzotint.schedules import Linear


@config
class Dream:
    """Masked diffusion from a causal model, with weights that know the context."""

    kind: Literal["dream"] = "dream"
    eps: float = Field(default=1e-3, gt=0, lt=1)
    """The smallest share that is masked."""
    near: float | None = Field(default=0.1, gt=0, lt=1)
    """How fast visible columns stop to count with their distance; null weighs by 1 / t instead."""

    def build(self, vocab: int, mask_id: int) -> Family:
        """The family over `vocab` ids, [MASK] included."""
        return dream(Absorbing(vocab, mask_id, Linear(eps=0)), self.eps, self.near)


def dream(process: Absorbing, eps: float = 1e-3, near: float | None = 0.1) -> Family:
    """Dream on a process."""
    weigh = inverse if near is None else Cart(near)
    objective = Counted(process, weigh, per_masked, Clipped(whole, eps, 1.0), given=1)
    return Family(process, objective, method="dream-ref", lookback=1)


@dataclass(frozen=True)
class Cart:
    """Context-adaptive weights: sum over visible j of p (1 - p)^(|i - j| - 1) / 2."""

    p: float

    def __call__(self, t: Tensor, masked: Tensor) -> Tensor:
        """Float[B, L], 0 at columns that are not masked; the kernel is taken in logarithms."""
        places = torch.arange(masked.shape[1], device=masked.device)
        distance = (places[:, None] - places).abs().double()
        p = torch.tensor(self.p, dtype=torch.float64)
        kernel = (torch.log(p / 2) + torch.log1p(-p) * (distance - 1)).exp().fill_diagonal_(0)
        return ((~masked).double() @ kernel * masked).to(t.dtype)
