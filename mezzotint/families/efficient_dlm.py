"""Efficient-DLM: a causal model that writes blocks, whose last masks are hidden at a block's end (arXiv 2512.14067).

Process   processes/absorbing.py; one share m in [eps, 1] per block, exactly round(m n) of its n columns masked, later
          ones sooner the fewer there are (objectives/fixed_count_masks.py)
Loss      cross-entropy / m at masked columns given the clean blocks before, a mean over them; one pass over [x_t, x_0]
          (objectives/masked_cross_entropy.py)
Network   block-causal, no shift: denoisers/published/open.py
Sampler   decode/methods/presets.py `nemotron`: columns surer than a threshold; finished blocks are kept as keys and
          values
Checked   tests/families/test_published.py; tests/objectives/test_fixed_count_masks.py
"""

from typing import Literal

from pydantic import Field

from mezzotint.config import config
from mezzotint.families.base import Family
from mezzotint.layouts import BlockCausal, NoisyThenClean
from mezzotint.objectives.fixed_count_masks import Exactly
from mezzotint.objectives.masked_cross_entropy import Counted, per_masked
from mezzotint.objectives.times import Clipped, PerBlock
from mezzotint.processes.absorbing import Absorbing
from mezzotint.schedules import Linear


@config
class EfficientDLM:
    """Block diffusion from a causal model, with masks where decoding leaves them."""

    kind: Literal["efficient_dlm"] = "efficient_dlm"
    block: int = Field(default=16, gt=0)
    """Columns per block; texts must be a whole number of blocks."""
    eps: float = Field(default=1e-3, gt=0, lt=1)
    """The smallest share that is masked."""
    half_life: float | None = Field(default=0.25, gt=0)
    """Share of a block within which a column's weight doubles where little is masked; null takes columns alike."""

    def build(self, vocab: int, mask_id: int) -> Family:
        """The family over `vocab` ids, [MASK] included."""
        process = Absorbing(vocab, mask_id, Linear(eps=0))
        times, layout = Clipped(PerBlock(self.block), self.eps, 1.0), NoisyThenClean(self.block)
        choose = Exactly(self.block, self.half_life)
        objective = Counted(process, count=per_masked, times=times, layout=layout, choose=choose)
        return Family(process, objective, method="nemotron", reading=BlockCausal(self.block), block=self.block)
