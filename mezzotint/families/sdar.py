"""SDAR: a causal model turned into one that writes blocks (Cheng et al. 2025, arXiv 2510.06303); TraDo.

Process   processes/absorbing.py; one share p in [eps, 1] per text
Loss      cross-entropy / p at masked columns given the clean blocks before, a mean over answer columns; one pass over
          [x_t, x_0] (layouts.py `NoisyThenClean`, objectives/masked_cross_entropy.py)
Network   block-causal, no shift: denoisers/published/open.py
Sampler   decode/methods/presets.py `sdar`: columns surer than a threshold, the schedule's number at least; finished
          blocks are kept as keys and values
Not so    the published loop's `entropy_bounded` reads numbers that were never set, and static remasking may overwrite
          the prompt's tail; decode/select.py `EntropyBound` is the paper's rule, and given columns are never written
Checked   tests/parity/test_sdar.py (masks, logits, cache), test_sdar_generation.py; tests/families/test_published.py
"""

from typing import Literal

from pydantic import Field

from mezzotint.config import config
from mezzotint.families.base import Family
from mezzotint.layouts import BlockCausal, NoisyThenClean
from mezzotint.objectives.masked_cross_entropy import Counted
from mezzotint.objectives.times import Clipped, whole
from mezzotint.processes.absorbing import Absorbing
from mezzotint.schedules import Linear


@config
class SDAR:
    """Block diffusion from a causal model."""

    kind: Literal["sdar"] = "sdar"
    block: int = Field(default=4, gt=0)
    """Columns per block; texts must be a whole number of blocks."""
    eps: float = Field(default=1e-3, gt=0, lt=1)
    """The smallest share that is masked."""

    def build(self, vocab: int, mask_id: int) -> Family:
        """The family over `vocab` ids, [MASK] included."""
        process = Absorbing(vocab, mask_id, Linear(eps=0))
        objective = Counted(process, times=Clipped(whole, self.eps, 1.0), layout=NoisyThenClean(self.block))
        return Family(process, objective, method="sdar", reading=BlockCausal(self.block), block=self.block)
