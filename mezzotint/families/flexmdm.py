"""FlexMDM: masked diffusion that also inserts its masks (Kim et al. 2025, arXiv 2509.01025).

Process   processes/insertion.py: a token joins as [MASK] on schedule `insert` (the paper's alpha), and is revealed on
          `reveal` (beta), truncated to the time after it joined
Network   denoisers/networks/edit_heads.py `GapHeads`: the token of each [MASK], and how many tokens are missing right
          of each column (the anchor's gap is the one before the text, so a text of n tokens has n + 1 gaps)
Loss      beta' / (1 - beta) cross-entropy at each [MASK], plus alpha' / (1 - alpha) phi(missing, predicted) in each
          gap, phi(x, y) = y - x + x log(x / y) >= 0; both of what is expected of all ways in which x_t may stand in the
          text, and a run of masks is one gap (objectives/edit_rate_losses.py), less the entropy of those ways.  The
          paper counts the way that was drawn: the same best network, but a bound above -log p.  Here the exact
          network's bound is -log p of the text and its length.  The token head has no mass on [MASK]; rates are a
          multiple of 1 - alpha Times are drawn more often near the clean end, which is the same and less noisy.  Ours:
          `even` weights
Sampler   tau-leaping: every [MASK] is revealed with probability (beta_s - beta_t) / (1 - beta_t), every gap gets a
          Poisson number of masks, mean (alpha_s - alpha_t) / (1 - alpha_t) times the predicted one; the last step
          inserts nothing.  `confident`: as many masks as that, but the surest first (revealing needs no order)
Checked   tests/oracles/test_flexmdm.py: shares, optimal counts, bound and sampler by enumeration
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from mezzotint.batch import Batch
from mezzotint.config import config
from mezzotint.decode.canvas import Canvas, Step
from mezzotint.decode.rule import Rule
from mezzotint.decode.samplers.insert_delete import flood, rewritten, room, splice
from mezzotint.decode.select import rank
from mezzotint.denoisers.networks.edit_heads import GapHeads
from mezzotint.families.base import Family, log_p
from mezzotint.families.forms.variable_length import Elastic
from mezzotint.objectives.edit_rate_losses import joined
from mezzotint.objectives.times import Squared, spread, whole
from mezzotint.objectives.variable_length import Path, VariableLength
from mezzotint.processes.insertion import Insertion
from mezzotint.processes.mixture_path import FlowSchedule, Power, absent, hazard, share
from mezzotint.rng import Rng, draw

_JOIN, _REVEAL, _TOKEN = 1, 2, 3
MOST = 128
"""Masks that a gap gets in one step, at most."""


@config
class FlexMDM:
    """Masked diffusion over texts of any length."""

    kind: Literal["flexmdm"] = "flexmdm"
    insert: FlowSchedule = Power()
    """When tokens join."""
    reveal: FlowSchedule = Power()
    """When they are revealed."""
    weights: Literal["bound", "even"] = "bound"
    """"even": times count t times as much in training, so that the last few tokens do not drown the rest."""
    confident: bool = False
    """Reveal the surest masks first."""

    def build(self, vocab: int, mask_id: int) -> Family:
        """The family over `vocab` ids, [MASK] included; the blank is the id behind them."""
        return flexmdm(Insertion(vocab, mask_id, self.insert, self.reveal), self.confident, even=self.weights == "even")


def flexmdm(process: Insertion, confident: bool = False, *, even: bool = False) -> Family:
    """FlexMDM on a process; settings as above."""
    mask_id, blank = process.mask_id, process.blank

    def corrupt(batch: Batch, t: Tensor, rng: Rng) -> tuple[Tensor, Tensor, Tensor]:
        noisy = process.corrupt(batch.tokens, t, rng)
        return process.hold(noisy, batch.tokens, ~batch.target), batch.tokens, ~batch.target

    def loss(raw: Tensor, path: Path, t: Tensor) -> Tensor:
        logp, rate = parts(raw, mask_id, absent(process.insert, t))
        joins, reveals = joined(path, rate, logp, mask_id, blank)
        return hazard(process.insert, t) * joins + hazard(process.reveal, t) * reveals

    bound = VariableLength(corrupt, lambda raw, path, t: spread(t) * loss(raw, path, t), Squared(whole), blank)
    levelled = VariableLength(corrupt, lambda raw, path, t: t * loss(raw, path, t), whole, blank)
    rule, form = leaping(process, confident), Elastic(blank, GapHeads)
    return Family(process, levelled if even else bound, rule, bound=bound, form=form, logits=False)


def leaping(process: Insertion, confident: bool) -> Rule:
    """The sampler: reveal and insert at once, from the same state."""

    def rule(raw: Tensor, canvas: Canvas, step: Step, rng: Rng) -> Canvas:
        logp, rate = parts(raw, process.mask_id, absent(process.insert, step.t))
        held = room(canvas.tokens, canvas.fixed, process.blank)
        masked = held.editable & (canvas.tokens == process.mask_id)
        shape = tuple(canvas.tokens.shape)
        revealed = masked & (rng.fork(_REVEAL).uniform(shape, raw.device) < share(process.reveal, step.t, step.s))
        if confident:
            revealed = masked & (rank(logp.amax(-1), masked) < revealed.sum(-1, keepdim=True))
        tokens = torch.where(revealed, draw(logp.exp(), rng.fork(_TOKEN)), canvas.tokens)
        mean = rate.double() * share(process.insert, step.t, step.s) * (step.s > 0)
        inserts = poisson(mean, rng.fork(_JOIN).uniform(shape, raw.device))
        tokens, first, counts = splice(held, tokens, held.editable, inserts, process.blank)
        return rewritten(canvas, step, flood(tokens, first, counts, process.mask_id))

    return rule


def parts(raw: Tensor, mask_id: int, gone: Tensor) -> tuple[Tensor, Tensor]:
    """log p of each token, Float[B, N, V], none on [MASK]; predicted number of missing tokens, Float[B, N].

    `gone` Float[B, 1] is the share of tokens that are missing at the time.
    """
    return log_p(raw[..., :-1], mask_id), gone * F.softplus(raw[..., -1])


def poisson(mean: Tensor, uniform: Tensor) -> Tensor:
    """Long, shape of `mean`: the number whose distribution function first exceeds `uniform`, at most MOST."""
    k = torch.arange(MOST, device=mean.device, dtype=torch.float64)
    mean = mean.double()[..., None]
    below = torch.exp(torch.xlogy(k, mean) - mean - torch.lgamma(k + 1)).cumsum(-1)
    return (uniform[..., None] > below).sum(-1)
