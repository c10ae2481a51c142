"""I-DLM: a causal model that drafts from masks and verifies its own drafts (arXiv 2604.11035).

Process   none to speak of: every column of an answer is masked
Loss      cross-entropy of masked columns plus `following` times that of the next token on the clean half, both one
          column early and each a mean; one pass over [x_t, x_0] in which noisy columns see clean blocks before theirs
          and noisy columns before them in it (layouts.py `CausalNoisyThenClean`, objectives/masked_and_next_token.py)
Network   causal, logits one column early: denoisers/published/open.py undoes the shift; the first column is never
          masked
Sampler   decode/methods/speculative.py, preset `idlm`: a pass verifies the last draft and makes the next; exact
Not so    the published code reads a mask of ones as no mask and decodes garbage; the network here is a causal one
Checked   tests/families/test_published.py (the loss, and the two streams against decoding);
          tests/engine/test_published.py (what it writes is what its causal pass writes)
"""

from typing import Literal

from pydantic import Field

from mezzotint.config import config
from mezzotint.families.base import Family
from mezzotint.layouts import Causal, CausalNoisyThenClean
from mezzotint.objectives.masked_and_next_token import MaskedAndNextToken
from mezzotint.objectives.masked_cross_entropy import Counted, per_masked, plain
from mezzotint.objectives.times import everything
from mezzotint.processes.absorbing import Absorbing
from mezzotint.schedules import Linear


@config
class IDLM:
    """A causal model that also continues a text of masks."""

    kind: Literal["idlm"] = "idlm"
    block: int = Field(default=4, gt=0)
    """Masks after a clean text while training; the authors train with 1, 2 and 3, one run after the other."""
    following: float | None = Field(default=0.2, ge=0)
    """Weight of the next-token loss; null makes both weigh the same, as in the authors' last run."""

    def build(self, vocab: int, mask_id: int) -> Family:
        """The family over `vocab` ids, [MASK] included."""
        process = Absorbing(vocab, mask_id, Linear(eps=0))
        layout = CausalNoisyThenClean(self.block)
        masked = Counted(process, plain, per_masked, everything, layout, given=1)
        return Family(
            process, MaskedAndNextToken(masked, 1, self.following), method="idlm", reading=Causal(), block=1, lookback=1
        )
