"""LLaDA2.0 to 2.2: large mixtures of experts that write blocks (Bie et al. 2025, arXiv 2512.15745), and fine-tuning.

Process   processes/absorbing.py; one share per block, within a band while fine-tuning (sec. 5, "mask ratio bandwidth")
Loss      pre-training: cross-entropy / t, a mean over all columns, [x_t, x_0] in one pass (sec. 4).  Fine-tuning: plain
          cross-entropy of masked columns on a mask and on its complement.  CAP: plus `certain` times the entropy of
          masked columns that are already right (objectives/masked_cross_entropy.py).  2.2: masks, then edits of the
          draft that comes of them, deletions and insertions among these (objectives/levenshtein_editing.py)
Network   block-causal, no shift; experts in groups: denoisers/published/open.py, denoisers/layers/moe.py `Grouped`
Sampler   decode/methods/presets.py `llada2` (threshold 0.95, blocks of 32), `llada21-q` and `llada21-s` with editing
Not so    the published 2.1 loop adds its 0/1 mask to the scores, so that nothing is masked, and both loops draw at
          temperature 0; here masks mask and temperature 0 takes the likeliest token
Checked   tests/parity/test_llada2_moe.py (masks, logits, routers), its generations; tests/families/test_published.py;
          tests/objectives/test_levenshtein_editing.py (edits)
"""

from typing import Literal

from pydantic import Field

from mezzotint.config import config
from mezzotint.errors import ConfigError
from mezzotint.families.base import Family
from mezzotint.layouts import BlockCausal, NoisyThenClean
from mezzotint.objectives.base import Objective
from mezzotint.objectives.levenshtein_editing import LevenshteinEditing
from mezzotint.objectives.masked_cross_entropy import Counted, per_masked, plain
from mezzotint.objectives.times import Clipped, PerBlock
from mezzotint.processes.absorbing import Absorbing
from mezzotint.schedules import Linear


@config
class LLaDA2:
    """Block diffusion with shares in a band, masks in pairs, and a price on doubt."""

    kind: Literal["llada2"] = "llada2"
    block: int = Field(default=32, gt=0)
    """Columns per block; texts must be a whole number of blocks."""
    answers: bool = False
    """Fine-tuning; otherwise pre-training with the bound's weights."""
    low: float = Field(default=1e-3, gt=0, lt=1)
    """Smallest share that is masked; 0.3 in the authors' fine-tuning."""
    high: float = Field(default=1.0, gt=0, le=1)
    """Largest share; 0.8 in the authors' fine-tuning."""
    certain: float = Field(default=0.0, ge=0)
    """Weight of doubt about right columns: 2 in the authors' CAP training."""
    edit_ids: tuple[int, int] | None = None
    """Ids of the vocabulary that delete a column and that insert a mask before it: learn to edit, as 2.2 does."""

    def build(self, vocab: int, mask_id: int) -> Family:
        """The family over `vocab` ids, [MASK] included.

        Raises:
            ConfigError: ids for edits that are none, or a price on doubt beside them.
        """
        edit_ids = () if self.edit_ids is None else self.edit_ids
        if len({mask_id, *edit_ids}) <= len(edit_ids) or not all(0 <= each < vocab for each in edit_ids):
            raise ConfigError(
                f"edit_ids {edit_ids} must be two ids below {vocab}, neither of them the mask's {mask_id}"
            )
        if edit_ids and self.certain:
            raise ConfigError("edits are learnt without a price on doubt: leave out edit_ids, or certain")
        process = Absorbing(vocab, mask_id, Linear(eps=0))
        times, layout = Clipped(PerBlock(self.block), self.low, self.high), NoisyThenClean(self.block)
        bound = Counted(process, times=Clipped(PerBlock(self.block), 1e-3, 1.0), layout=layout)
        objective: Objective = Counted(process, times=times, layout=layout, certain=self.certain)
        if self.edit_ids is not None:
            objective = LevenshteinEditing(process, self.edit_ids, self.block, times, layout)
        elif self.answers:
            objective = Counted(process, plain, per_masked, times, layout, mirrored=True, certain=self.certain)
        return Family(
            process, objective, method="llada2", bound=bound, reading=BlockCausal(self.block), block=self.block
        )
