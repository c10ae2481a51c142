"""DiffuLLaMA and DiffuGPT: causal models adapted to diffusion (Gong et al. 2024, arXiv 2410.17891).

Process   processes/absorbing.py; a share t in [eps, 1] of the columns is masked
Loss      cross-entropy / t at masked columns, a mean over masked columns (objectives/masked_cross_entropy.py)
Network   attention goes from causal to full while training, a fresh random mask in every step; logits one column early:
          denoisers/published/open.py undoes the shift, denoisers/published/add_mask.py in training; the first column is
          never noised
Sampler   published checkpoints: the preset `diffullama` of decode/methods/presets.py, every masked column is written
          with chance 1 / (steps left), in 64 steps however short the text.  What is trained here: `dream-ref`, a step
          per column, since holes are short
Checked   tests/parity/test_diffullama.py (masks, logits), its generations; tests/families/test_published.py (loss)
"""

from dataclasses import dataclass
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from mezzotint.batch import Batch
from mezzotint.config import config
from mezzotint.denoisers.published.attention_patterns import AnnealedPattern
from mezzotint.families.base import Family
from mezzotint.layouts import Attend, Inputs
from mezzotint.objectives.base import Loss
from mezzotint.objectives.masked_cross_entropy import Counted, per_masked
from mezzotint.objectives.times import Clipped, whole
from mezzotint.processes.absorbing import Absorbing
from mezzotint.rng import Rng
from mezzotint.schedules import Linear

_PAIRS = 0xA77E


@config
class DiffuLLaMA:
    """Masked diffusion from a causal model, with annealed attention."""

    kind: Literal["diffullama"] = "diffullama"
    eps: float = Field(default=1e-3, gt=0, lt=1)
    """The smallest share that is masked."""
    anneal: int = Field(default=10_000, gt=0)
    """Batches until attention is full; 1 is full at once, as the 7B model was trained."""

    def build(self, vocab: int, mask_id: int) -> Family:
        """The family over `vocab` ids, [MASK] included."""
        process = Absorbing(vocab, mask_id, Linear(eps=0))
        objective = Counted(process, count=per_masked, times=Clipped(whole, self.eps, 1.0), given=1)
        return Family(process, Annealing(objective, self.anneal), method="dream-ref", bound=objective, lookback=1)


@dataclass(frozen=True)
class Annealing:
    """An objective whose columns see more and more of what stands behind them."""

    inner: Counted
    batches: int

    def share(self, step: int) -> float:
        """Of the pairs beyond the causal ones, how many are seen in batch `step`, counted from 0."""
        return min(1.0, (step + 1) / self.batches)

    def __call__(self, denoiser: Any, batch: Batch, rng: Rng) -> Loss:
        """The loss under a fresh mask, the same for all rows and heads."""
        if isinstance(rng.step, Tensor):
            raise TypeError("annealing counts batches: give noise of one step")
        share = self.share(rng.step)
        if share == 1:
            return self.inner(denoiser, batch, rng)
        pattern = AnnealedPattern.drawn(batch.tokens.shape[1], share, rng.fork(_PAIRS))
        return self.inner.over(Seen(pattern))(denoiser, batch, rng)


@dataclass(frozen=True)
class Seen:
    """Columns as they are, under a pattern."""

    pattern: AnnealedPattern

    def arrange(self, x_t: Tensor, x_0: Tensor) -> Inputs:
        """Inputs of L columns."""
        columns = x_t.shape[1]
        return Inputs(x_t, torch.arange(columns, device=x_t.device), Attend(columns, columns, self.pattern(0)))

    def extract(self, raw: Tensor) -> Tensor:
        """All of it."""
        return raw
