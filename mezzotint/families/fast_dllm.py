"""Fast-dLLM v2: a causal model that writes blocks and keeps its shift (Wu et al. 2025, arXiv 2509.26328).

Process   processes/absorbing.py; one share in [eps, 1] per block
Loss      plain cross-entropy at masked columns given the clean blocks before, a mean over them; every mask is used
          together with its complement, so that each column is masked once; one pass over [x_t, x_0]
          (objectives/masked_cross_entropy.py)
Network   block-causal, logits one column early: denoisers/published/open.py undoes the shift,
          denoisers/published/add_mask.py in training; the first column is never noised
Sampler   decode/methods/presets.py `fdllm2`: columns surer than a threshold, the first of a block before the others
Checked   tests/families/test_published.py
"""

from typing import Literal

from pydantic import Field

from mezzotint.config import config
from mezzotint.families.base import Family
from mezzotint.layouts import BlockCausal, NoisyThenClean
from mezzotint.objectives.masked_cross_entropy import Counted, per_masked, plain
from mezzotint.objectives.times import Clipped, PerBlock
from mezzotint.processes.absorbing import Absorbing
from mezzotint.schedules import Linear


@config
class FastDLLM:
    """Block diffusion from a causal model, with its shift."""

    kind: Literal["fast_dllm"] = "fast_dllm"
    block: int = Field(default=32, gt=0)
    """Columns per block; texts must be a whole number of blocks."""
    eps: float = Field(default=1e-3, gt=0, lt=1)
    """The smallest share that is masked."""

    def build(self, vocab: int, mask_id: int) -> Family:
        """The family over `vocab` ids, [MASK] included."""
        process = Absorbing(vocab, mask_id, Linear(eps=0))
        times, layout = Clipped(PerBlock(self.block), self.eps, 1.0), NoisyThenClean(self.block)
        objective = Counted(process, plain, per_masked, times, layout, given=1, mirrored=True)
        return Family(
            process, objective, method="fdllm2", reading=BlockCausal(self.block), block=self.block, lookback=1
        )
