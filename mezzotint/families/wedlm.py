"""WeDLM: masked diffusion under causal attention, known columns read before masked ones (arXiv 2512.22737).

Process   processes/absorbing.py; one share in [eps, 1] per block, exactly round(share n) of its n columns masked
          (objectives/fixed_count_masks.py)
Loss      cross-entropy at masked columns, weights 1 / share that add up to one, plus cross-entropy of the next token on
          the clean half; one pass over [x_t, x_0] in which a block's decided columns come before its masks (layouts.py
          `CausalNoisyThenClean`, objectives/masked_and_next_token.py)
Network   causal in the order of reading, positions as in the text, no shift: denoisers/published/open.py
Sampler   decode/methods/presets.py `wedlm`: a window that moves along, decided columns kept as keys and values from the
          moment the first open one lies behind them (decode/caches/policies.py `Sorted`)
Not so    shares begin at eps = 1e-3 here, since a block's weight is one over its share
Checked   tests/parity/test_wedlm.py, test_wedlm_generation.py; tests/families/test_published.py (the loss, and the two
          streams against decoding)
"""

from typing import Literal

from pydantic import Field

from mezzotint.config import config
from mezzotint.families.base import Family
from mezzotint.layouts import Causal, CausalNoisyThenClean, DecidedFirst
from mezzotint.objectives.fixed_count_masks import Exactly
from mezzotint.objectives.masked_and_next_token import MaskedAndNextToken
from mezzotint.objectives.masked_cross_entropy import Counted, as_weighed, balanced
from mezzotint.objectives.times import Clipped, PerBlock
from mezzotint.processes.absorbing import Absorbing
from mezzotint.schedules import Linear


@config
class WeDLM:
    """Any order of writing, one order of reading."""

    kind: Literal["wedlm"] = "wedlm"
    block: int = Field(default=32, gt=0)
    """Columns per block while training; texts must be a whole number of blocks."""
    eps: float = Field(default=1e-3, gt=0, lt=1)
    """The smallest share that is masked."""
    following: float = Field(default=1.0, ge=0)
    """Weight of the next-token loss."""

    def build(self, vocab: int, mask_id: int) -> Family:
        """The family over `vocab` ids, [MASK] included."""
        process = Absorbing(vocab, mask_id, Linear(eps=0))
        times = Clipped(PerBlock(self.block), self.eps, 1.0)
        layout = CausalNoisyThenClean(self.block, DecidedFirst(mask_id))
        masked = Counted(process, balanced, as_weighed, times, layout, choose=Exactly(self.block))
        return Family(process, MaskedAndNextToken(masked, 0, self.following), method="wedlm", reading=Causal())
