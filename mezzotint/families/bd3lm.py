"""BD3LM: autoregressive over blocks, masked diffusion inside them (Arriola et al. 2025, arXiv 2503.09573).

Process   processes/absorbing.py, one time per block: objectives/times.py `BlockStrata`
Loss      eq. 8: MDLM's (families/mdlm.py) on every block, given the clean blocks before it; one pass over [x_t, x_0],
          layouts.py `NoisyThenClean`.  Clipped (sec. 4.2): times in [low, high] and the masked share of each block kept
          there (processes/clipped_absorbing.py); `best` chooses them by variance.  With low > 1/2 every masked token
          counts 1, as published.  A clipped loss is no bound; `Family.bound` is
Network   block-causal; SUBS; no time
Sampler   Alg. 2, block by block: ancestral steps, or first hitting (decode/samplers/first_hitting.py), both through
          `nucleus`; finished blocks are kept as keys and values (decode/reader.py, decode/caches/policies.py)
Checked   tests/parity/test_bd3lm.py: the published code's mask, logits, losses, times and samples; a block of the whole
          length gives MDLM with the same noise; one step per block gives the known bound on a toy source
"""

from collections.abc import Sequence
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from mezzotint.batch import Batch
from mezzotint.config import config
from mezzotint.decode.canvas import Canvas, Step
from mezzotint.decode.nucleus import nucleus
from mezzotint.decode.rule import Rule
from mezzotint.decode.samplers.first_hitting import one_by_one, revealing
from mezzotint.decode.samplers.redraw import drawn, noisy
from mezzotint.families.base import Family
from mezzotint.families.forms.tokens import Tokens, even_steps, settled
from mezzotint.families.mdlm import mdlm
from mezzotint.layouts import BlockCausal, NoisyThenClean
from mezzotint.objectives.clip_search import RANGES, Range, variance
from mezzotint.objectives.masked_bound import Weight, even
from mezzotint.objectives.times import BlockStrata
from mezzotint.processes.absorbing import Absorbing
from mezzotint.processes.clipped_absorbing import Resampled, fits
from mezzotint.processes.subs import subs
from mezzotint.rng import Rng, draw
from mezzotint.schedules import Linear, Schedule, complete


@config
class BD3LM:
    """Block diffusion."""

    kind: Literal["bd3lm"] = "bd3lm"
    schedule: Schedule = Linear(eps=0)
    block: int = Field(default=16, gt=0)
    """Columns per block; texts must be a whole number of blocks."""
    clip: Range | None = None
    """Limits of the masked share while training; none gives the bound."""
    weights: Literal["bound", "even"] = "bound"
    """"even": train on the plain cross-entropy of masked tokens, as in MDLM."""
    nucleus: float = Field(default=1.0, gt=0, le=1)
    """Probability mass that may be drawn from."""
    sampler: Literal["ancestral", "first-hitting"] = "ancestral"
    """Steps of equal times, or one column per step at the time at which it is revealed, in as many steps as columns."""

    def build(self, vocab: int, mask_id: int) -> Family:
        """The family over `vocab` ids, [MASK] included."""
        process = Absorbing(vocab, mask_id, self.schedule)
        hits = self.sampler == "first-hitting"
        rule = hitting(process, self.nucleus) if hits else backwards(process, self.nucleus)
        form = Tokens(process.prior, settled(self.block), self.block, planned=one_by_one if hits else even_steps)
        weight = even if self.weights == "even" else None
        loss = bd3lm(process, self.block, self.clip, weight).objective
        # every time counts here; the published loss begins at 1e-3, where some schedules have lost a good part
        every = Absorbing(vocab, mask_id, complete(self.schedule))
        bound = mdlm(every, BlockStrata(self.block, 0.0), NoisyThenClean(self.block)).objective
        return Family(process, loss, rule, bound=bound, reading=BlockCausal(self.block), block=self.block, form=form)


def bd3lm(process: Absorbing, block: int, clip: Range | None = None, weight: Weight | None = None) -> Family:
    """MDLM's family with one time per block and the two-stream layout."""
    low, high = clip or (1e-3, 1.0)
    limited = process if clip is None else Resampled(process, block, low, high)
    weight = even if low > 0.5 else weight
    return mdlm(limited, BlockStrata(block, low, high), NoisyThenClean(block), weight)


def best(
    process: Absorbing, block: int, denoiser: Any, batches: Sequence[Batch], rng: Rng, ranges: Sequence[Range] = RANGES
) -> Range:
    """The range whose loss varies least with this denoiser (sec. 4.2); those that no number of masks fits are out."""
    fitting = [clip for clip in ranges if fits(block, *clip)]
    spread = [variance(bd3lm(process, block, clip).objective, denoiser, batches, block, rng) for clip in fitting]
    return fitting[int(torch.stack(spread).argmin())]


def backwards(process: Absorbing, mass: float = 1.0) -> Rule:
    """The posterior step: a masked column of the window stays so with probability (1 - a_s) / (1 - a_t)."""

    def rule(raw: Tensor, canvas: Canvas, step: Step, rng: Rng) -> Canvas:
        x_t = noisy(canvas, step, process.mask_id)
        p0 = _nucleus(process, raw, x_t, mass)
        q = process.posterior(p0, x_t, process.alpha(step.t), process.alpha(step.s))
        return drawn(canvas, step, draw(q, rng), process.mask_id, p0)

    return rule


def hitting(process: Absorbing, mass: float = 1.0) -> Rule:
    """The rule of the plan `FirstHitting`: one masked column of the window becomes a draw."""
    return revealing(process.mask_id, lambda raw, x_t: _nucleus(process, raw, x_t, mass))


def _nucleus(process: Absorbing, raw: Tensor, x_t: Tensor, mass: float) -> Tensor:
    """p(x_0 | x_t), Float64[B, W, V]."""
    return nucleus(subs(raw.double(), x_t, process.mask_id).exp(), mass)
