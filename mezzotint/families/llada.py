"""LLaDA: masked diffusion at the size of LLMs (Nie et al. 2025, arXiv 2502.09992); LLaDA 1.5, LLaDA-MoE, iLLaDA.

Process   processes/absorbing.py; a share p = (1 - eps) t + eps of the columns is masked
Loss      cross-entropy / p at masked columns, a mean over all columns (objectives/masked_cross_entropy.py); fine-tuning
          masks answers only, their padding with end tokens included, and is a mean over texts
Network   full attention, no shift, no time: denoisers/published/open.py
Sampler   the likeliest tokens, the surest columns first, budgets from decode/plan.py `linear`; blocks, guidance and
          caches are the presets `llada-*` of decode/methods/presets.py
Not so    in the published loop guidance without an attention mask fails, lengths must divide, `confidence_eos_eot_inf`
          reaches one of its two ids, and confidences have the type of the logits: here none of these is so
Checked   tests/parity/test_llada.py (logits), test_llada_generation.py; tests/families/test_published.py (loss)
"""

from typing import Literal

from pydantic import Field

from mezzotint.config import config
from mezzotint.families.base import Family
from mezzotint.objectives.masked_cross_entropy import Counted, per_text, per_token
from mezzotint.objectives.times import Clipped, Times, whole
from mezzotint.processes.absorbing import Absorbing
from mezzotint.schedules import Linear


@config
class LLaDA:
    """Masked diffusion with weight 1 / p."""

    kind: Literal["llada"] = "llada"
    eps: float = Field(default=1e-3, gt=0, lt=1)
    """The smallest share that is masked."""
    answers: bool = False
    """Fine-tuning: texts weigh the same, however long their answers are."""

    def build(self, vocab: int, mask_id: int) -> Family:
        """The family over `vocab` ids, [MASK] included."""
        return llada(Absorbing(vocab, mask_id, Linear(eps=0)), self.eps, answers=self.answers)


def llada(process: Absorbing, eps: float = 1e-3, times: Times = whole, *, answers: bool = False) -> Family:
    """LLaDA on a process; `times` are uniform and become shares in [eps, 1]."""
    count = per_text if answers else per_token
    objective = Counted(process, count=count, times=Clipped(times, eps, 1.0))
    return Family(process, objective, method="llada-ref")
