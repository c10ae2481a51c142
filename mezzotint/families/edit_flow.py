"""Edit Flows: texts that are written by insertions, deletions and substitutions (Havasi et al. 2025, arXiv 2506.09018).

Process   processes/path.py over the columns of processes/alignment.py: each column of the alignment switches from the
          noisy to the clean text by itself, kappa = t^3 in the paper's time (sec. 3; our t is one minus it)
Network   denoisers/editing.py `EditHeads`; its rates are normalised, the true ones are kappa' / (1 - kappa) times these
Loss      sum of the rates out of x_t minus kappa' / (1 - kappa) times sum of log rate over the edits that are still to
          be made (the paper's Bregman divergence), plus the constant that it leaves out: with c the number of pending
          edits that are the same operation, every operation costs rate - c log rate + c log c - c, at least zero, so
          the value bounds -log p of the text, length included.  A missing column is inserted right of the last token
          at its left; columns with the same token there are one operation
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
from mezzotint.decode.splice import fill, rewritten, room, splice
from mezzotint.denoisers.editing import EditHeads
from mezzotint.families.base import Family, log_p
from mezzotint.families.elastic import Elastic
from mezzotint.objectives.growing import Growing, Path
from mezzotint.objectives.times import Clipped, whole
from mezzotint.processes.alignment import Coupling, Empty, Scattered, apart, padded, shortest
from mezzotint.processes.path import FlowSchedule, MixturePath, Power, masked_source, share
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
        coupling = Empty(vocab)
        if self.random:
            ids = tuple(token for token in range(vocab) if token != mask_id)
            coupling = Scattered(ids, self.random, ALIGNMENTS[self.alignment], vocab)
        return edit_flow(MixturePath(masked_source(vocab + 1, vocab), self.schedule), coupling, mask_id)


def edit_flow(process: MixturePath, coupling: Coupling, never: int | None = None) -> Family:
    """Edit Flows on a path over `process.vocab` ids, the blank the last of them; the id `never` is never written."""
    blank = process.vocab - 1

    def corrupt(batch: Batch, t: Tensor, rng: Rng) -> tuple[Tensor, Tensor, Tensor]:
        noisy, clean, given = coupling(batch, rng.fork(_COUPLE))
        return process.between(noisy, clean, t, rng), clean, given

    def loss(raw: Tensor, path: Path, t: Tensor) -> Tensor:
        rates, inserted, replaced = parts(raw, never)
        out = rates[..., 0] * path.gaps + rates[..., 1:].sum(-1) * path.editable
        pending, missing = path.noisy != path.clean, path.noisy == blank
        token = torch.where(path.clean == blank, 0, path.clean)[..., None]
        rows = path.left[..., None].expand(-1, -1, inserted.shape[-1])
        log_rates = rates.clamp_min(torch.finfo(rates.dtype).tiny).log()
        insert = path.at_left(log_rates[..., 0]) + inserted.gather(1, rows).gather(-1, token)[..., 0]
        replace = log_rates[..., 2] + replaced.gather(-1, token)[..., 0]
        log_rate = torch.where(missing, insert, torch.where(path.clean == blank, log_rates[..., 1], replace))
        twins = (path.left[:, :, None] == path.left[:, None]) & (path.clean[:, :, None] == path.clean[:, None])
        same = torch.where(missing, (twins & (pending & missing)[:, None]).sum(-1), 1).clamp_min(1)
        owed = torch.where(pending, same.to(raw.dtype).log() - log_rate - 1, 0.0)
        return process.rate(t) * (out + owed)

    def rule(raw: Tensor, canvas: Canvas, step: Step, rng: Rng) -> Canvas:
        rates, inserted, replaced = parts(raw, never)
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

    objective = Growing(corrupt, loss, Clipped(whole, 1e-3, 1.0), blank)
    return Family(process, objective, rule, form=Elastic(blank, EditHeads))


def parts(raw: Tensor, never: int | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """Normalised rates Float[B, N, 3] (insert, delete, substitute), log-probabilities of inserted and new tokens."""
    inserted, replaced = (log_p(logits, never) for logits in raw[..., 3:].chunk(2, -1))
    return F.softplus(raw[..., :3]), inserted, replaced


def guided(conditional: Tensor, unconditional: Tensor, weight: float) -> Tensor:
    """Raw output of classifier-free guidance of strength `weight`; 0 is the conditional network."""
    rates = [F.softplus(raw[..., :3]).log() for raw in (conditional, unconditional)]
    rates = torch.exp((1 + weight) * rates[0] - weight * rates[1])
    tokens = (1 + weight) * conditional[..., 3:] - weight * unconditional[..., 3:]
    return torch.cat([rates + torch.log(-torch.expm1(-rates)), tokens], -1)
