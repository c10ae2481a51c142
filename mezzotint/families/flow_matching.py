"""Discrete flow matching, mixture path (Gat et al. 2024, arXiv 2407.15595; the released flow_matching library).

Process   processes/path.py: kappa = alpha, the paper's time is 1 - t, x_1 of the paper is our clean x_0
Loss      generalised KL, per column: -rate (p(x_t) - [x_t = x_0] + [x_t != x_0] log p(x_0)), where
          rate = kappa' / (1 - kappa); or plain cross-entropy at every column, corrupted or not; t down to 1e-3
Network   p(x_0 | x_t), the ordinary posterior; told t; logits untouched, [MASK] keeps its mass in the loss
Sampler   Euler on the mixture path: x_0 ~ p, then a jump with probability 1 - exp(-h lambda), lambda the summed rates,
          to a token drawn by rate; the last step writes x_0; optionally a divergence-free term (`churn`)
Bound     `bound`: the generalised KL over uniform levels; tight for a mask source, loose for a uniform one, where a
          path jumps once only, so do not hold it against UDLM's
Checked   tests/parity/test_discrete_flow_matching.py (recorded vectors), tests/oracles/test_flow_matching.py
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from mezzotint.config import config
from mezzotint.decode.grid import Grid
from mezzotint.families.base import Family, log_p
from mezzotint.objectives.denoising import Denoising, TokenLoss
from mezzotint.objectives.times import Clipped, whole
from mezzotint.processes.path import FlowSchedule, MixturePath, Power, divergence, masked_source, uniform_source
from mezzotint.rng import Rng, draw

_GUESS, _JUMP, _TARGET = 1, 2, 3
EARLIEST = 1e-3
"""Times nearer to the clean end are not trained on: the rate is unbounded there."""
SOURCES = {"mask": masked_source, "uniform": uniform_source}


@config
class FlowMatching:
    """Discrete flow matching."""

    kind: Literal["flow_matching"] = "flow_matching"
    schedule: FlowSchedule = Power()
    source: Literal["mask", "uniform"] = "mask"
    """The noise that paths start from."""
    loss: Literal["generalised-kl", "cross-entropy"] = "generalised-kl"
    """A bound on the likelihood, or the paper's simpler loss."""
    churn: float = Field(default=0.0, ge=0)
    """Divergence-free term of the sampler: columns also go back to noise and on again; corrects at a price in steps."""

    def build(self, vocab: int, mask_id: int) -> Family:
        """The family over `vocab` ids, [MASK] included; a uniform source never draws it."""
        process = MixturePath(SOURCES[self.source](vocab, mask_id), self.schedule)
        loss = {"generalised-kl": generalised_kl(process), "cross-entropy": cross_entropy}[self.loss]
        return flow_matching(process, loss, Euler(process, self.churn, forbidden=mask_id))


def flow_matching(process: MixturePath, loss: TokenLoss, solver: "Euler") -> Family:
    """Flow matching on a process, with a token loss and a solver."""
    objective = Denoising(process, loss, Clipped(whole, EARLIEST, 1.0))
    return Family(process, objective, Grid(solver), solver, bound(process))


def generalised_kl(process: MixturePath) -> TokenLoss:
    """The generalised KL divergence between true and predicted velocities; at least zero in every column."""

    def token_loss(raw: Tensor, x_0: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        return process.rate(t) * divergence(log_p(raw), x_0, x_t)

    return token_loss


def cross_entropy(raw: Tensor, x_0: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
    """-log p(x_0 | x_t) in every column."""
    return -log_p(raw).gather(-1, x_0[..., None])[..., 0]


def bound(process: MixturePath) -> Denoising:
    """The bound in nats per token, by levels: with kappa uniform the weight is 1 / (1 - kappa), on any schedule."""

    def token_loss(raw: Tensor, x_0: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        return divergence(log_p(raw), x_0, x_t) / (1 - process.alpha(t))

    levels = Clipped(whole, EARLIEST, 1.0)
    return Denoising(process, token_loss, lambda batch, rng: process.schedule.time(1 - levels(batch, rng)))


@dataclass(frozen=True)
class Euler:
    """One Euler step of the jump process, (raw, x_t, t, s, rng) -> x_s."""

    process: MixturePath
    churn: float | Callable[[Tensor], Tensor] = 0.0
    """c(t), a number or a function of our t."""
    forbidden: int | None = None
    """An id that is never written, where the network leaves it some mass: [MASK]."""
    pick: Callable[[Tensor, Rng], Tensor] = draw
    """How tokens are chosen by probability: (weights Float[B, L, V], rng) -> Long[B, L]."""

    def __call__(self, raw: Tensor, x_t: Tensor, t: Tensor, s: Tensor, rng: Rng) -> Tensor:
        guess, rates = self.plan(raw, x_t, t, rng)
        jump = self.jumping(rates, t, s, rng)
        x_s = torch.where(jump, self.pick(rates, rng.fork(_TARGET)), x_t)
        return torch.where(s <= 0, guess, x_s)

    def plan(self, raw: Tensor, x_t: Tensor, t: Tensor, rng: Rng) -> tuple[Tensor, Tensor]:
        """A guess of the clean tokens, Long[B, L], and the rates Float64[B, L, V] that lead there."""
        guess = self.pick(log_p(raw, self.forbidden).exp(), rng.fork(_GUESS))
        churn = self.churn(t) if callable(self.churn) else self.churn
        return guess, self.process.jumps(guess, x_t, t, churn)

    def jumping(self, rates: Tensor, t: Tensor, s: Tensor, rng: Rng) -> Tensor:
        """Bool[B, L]: the columns that leave between t and s."""
        stay = torch.exp(-(t - s) * rates.sum(-1))
        return rng.fork(_JUMP).uniform(tuple(stay.shape), stay.device) < 1 - stay
