"""Edit Flows: texts that are written by insertions, deletions and substitutions (Havasi et al. 2025, arXiv 2506.09018).

Process   processes/mixture_path.py over the columns of processes/alignment.py: each column of the alignment switches
          from the noisy to the clean text by itself, kappa = t^3 in the paper's time (sec. 3; our t is one minus it)
Network   denoisers/networks/edit_heads.py `EditHeads`; its rates are normalised, the true ones are kappa' / (1 - kappa)
          times that, and multiples of 1 - kappa, as what is missing is: rates that stay up at the end of a text cost
          without limit
Loss      kappa' / (1 - kappa) times what objectives/edit_rate_losses.py counts: the paper's Bregman divergence, and the
          constant that it leaves out.  From the empty text all alignments count at once, so exact rates have a bound
          that is -log p of the text and its length; from random tokens the edits of the alignment do, a loose bound.
          The integral is over levels kappa, drawn more often near the clean end, which is the same and less noisy
Sampler   one Euler step: each column inserts with probability r times its rate, and is replaced or deleted with r times
          theirs, r = (kappa_s - kappa_t) / (1 - kappa_t), h kappa' / (1 - kappa) to first order; all edits at once
Guidance  `guided`: rates and tokens, each conditional^(1 + w) unconditional^-w
Checked   tests/oracles/test_edit_flow.py: the optimal rates, bound and sampler by enumeration
"""

from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from mezzotint.batch import Batch
from mezzotint.config import config
from mezzotint.decode.canvas import Canvas, Step
from mezzotint.decode.samplers.insert_delete import fill, rewritten, room, splice
from mezzotint.denoisers.networks.edit_heads import EditHeads
from mezzotint.families.base import Family, log_p
from mezzotint.families.forms.variable_length import Elastic
from mezzotint.objectives import edit_rate_losses
from mezzotint.objectives.times import Levels, Squared, spread, whole
from mezzotint.objectives.variable_length import Path, VariableLength
from mezzotint.processes.alignment import Coupling, EmptySource, RandomSource, apart, padded, shortest
from mezzotint.processes.mixture_path import FlowSchedule, MixturePath, Power, absent, masked_source, share
from mezzotint.rng import Rng, draw

_COUPLE, _INSERT, _CHANGE, _WHICH, _INSERTED, _REPLACED = range(1, 7)
ALIGNMENTS = {"shortest": shortest, "padded": padded, "apart": apart}


@config
class EditFlow:
    """Edit Flows from the empty text, or from random tokens."""

    kind: Literal["edit_flow"] = "edit_flow"
    schedule: FlowSchedule = Power(power=3.0)
    random: int = Field(default=0, ge=0)
    """Paths start from up to this many random tokens; 0: from the empty text."""
    alignment: Literal["shortest", "padded", "apart"] = "shortest"
    """How random tokens are matched to the text; `apart` deletes all of them."""

    def build(self, vocab: int, mask_id: int) -> Family:
        """The family over `vocab` ids; the blank is the id behind them, [MASK] has no use here and is never written."""
        coupling, cost = EmptySource(vocab), edit_rate_losses.inserted
        if self.random:
            ids = tuple(token for token in range(vocab) if token != mask_id)
            coupling, cost = RandomSource(ids, self.random, ALIGNMENTS[self.alignment], vocab), edit_rate_losses.aligned
        return edit_flow(MixturePath(masked_source(vocab + 1, vocab), self.schedule), coupling, cost, mask_id)


def edit_flow(
    process: MixturePath, coupling: Coupling, cost: edit_rate_losses.Cost, never: int | None = None
) -> Family:
    """Edit Flows on a path over `process.vocab` ids, the blank the last of them; the id `never` is never written."""
    blank = process.vocab - 1

    def corrupt(batch: Batch, t: Tensor, rng: Rng) -> tuple[Tensor, Tensor, Tensor]:
        noisy, clean, given = coupling(batch, rng.fork(_COUPLE))
        return process.between(noisy, clean, t, rng), clean, given

    def loss(raw: Tensor, path: Path, t: Tensor) -> Tensor:
        gone = absent(process.schedule, t)
        rates, inserted, replaced = parts(raw, gone, never)
        return spread(gone) * cost(path, rates, inserted, replaced, blank) / gone

    def rule(raw: Tensor, canvas: Canvas, step: Step, rng: Rng) -> Canvas:
        rates, inserted, replaced = parts(raw, absent(process.schedule, step.t), never)
        chance = share(process.schedule, step.t, step.s)[..., None] * rates.double()
        held = room(canvas.tokens, canvas.fixed, blank)
        uniform = [
            rng.fork(name).uniform(tuple(canvas.tokens.shape), raw.device) for name in (_INSERT, _CHANGE, _WHICH)
        ]
        inserts = uniform[0] < chance[..., 0]
        changed = held.editable & (uniform[1] < chance[..., 1:].sum(-1))
        deleted = changed & (uniform[2] * chance[..., 1:].sum(-1) < chance[..., 1])
        tokens = torch.where(changed, draw(replaced.exp(), rng.fork(_REPLACED)), canvas.tokens)
        tokens, first, counts = splice(held, tokens, ~deleted, inserts.long(), blank)
        return rewritten(canvas, step, fill(tokens, first, counts, draw(inserted.exp(), rng.fork(_INSERTED))))

    objective = VariableLength(corrupt, loss, Levels(Squared(whole), process.schedule), blank)
    return Family(process, objective, rule, form=Elastic(blank, EditHeads), logits=False)


def parts(raw: Tensor, gone: Tensor, never: int | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """Rates Float[B, N, 3] (insert, delete, substitute), log-probabilities of inserted and new tokens.

    `gone` Float[B, 1] is the share of columns that have not switched yet, of which the rates are a multiple.
    """
    inserted, replaced = (log_p(logits, never) for logits in raw[..., 3:].chunk(2, -1))
    return gone[..., None] * F.softplus(raw[..., :3]), inserted, replaced


def guided(conditional: Tensor, unconditional: Tensor, weight: float) -> Tensor:
    """Raw output Float[B, N, *] of classifier-free guidance of strength `weight`; 0 is the conditional network."""
    rates = [F.softplus(raw[..., :3]).log() for raw in (conditional, unconditional)]
    rates = torch.exp((1 + weight) * rates[0] - weight * rates[1])
    tokens = (1 + weight) * conditional[..., 3:] - weight * unconditional[..., 3:]
    return torch.cat([rates + torch.log(-torch.expm1(-rates)), tokens], -1)
