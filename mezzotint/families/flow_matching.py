"""Discrete flow matching, mixture path (Gat et al. 2024, arXiv 2407.15595; the released flow_matching library).

Process   processes/mixture_path.py: kappa = alpha, the paper's time is 1 - t, x_1 of the paper is our clean x_0;
          `kept`: a conditional coupling of noise and text, as the paper has one, instead of the independent one
Loss      generalised KL, per column: -rate (p(x_t) - [x_t = x_0] + [x_t != x_0] log p(x_0)), rate = kappa'/(1 - kappa);
          or plain cross-entropy at every column; t down to 1e-3
Network   p(x_0 | x_t), the ordinary posterior; conditioned on t; logits untouched, [MASK] keeps its mass in the loss
Sampler   Euler on the mixture path: x_0 ~ p, then a jump with probability 1 - exp(-h lambda), lambda the summed rates,
          to a token drawn by rate; the last step writes x_0; optionally a divergence-free term (`churn`)
Bound     generalised KL over uniform levels; loose for a uniform source (a path jumps once): no rival of UDLM's
Reversal  ours: the marginals of a uniform source are those of uniform noise, so the same network, its answer divided by
          q(x_t | x_0), also runs UDLM's steps and has its bound, which is tight
Checked   tests/parity/test_discrete_flow_matching.py (recorded vectors), tests/oracles/test_flow_matching.py
"""

from dataclasses import replace
from functools import partial
from typing import Literal

from pydantic import Field
from torch import Tensor

from mezzotint.config import config
from mezzotint.decode.samplers.flow_euler import Euler
from mezzotint.decode.samplers.time_grid import TimeGrid, Update
from mezzotint.errors import ConfigError
from mezzotint.families.base import Family, log_p
from mezzotint.families.udlm import continuous, step
from mezzotint.objectives.denoising import Denoising, TokenLoss
from mezzotint.objectives.times import Clipped, whole
from mezzotint.processes import mixture_path
from mezzotint.processes.mixture_path import ConditionalCoupling, FlowSchedule, MixturePath, Power
from mezzotint.processes.uniform import Uniform
from mezzotint.rng import Rng, draw

EARLIEST = 1e-3
"""Times nearer to the clean end are not trained on: the rate is unbounded there."""
SOURCES = {"mask": mixture_path.masked_source, "uniform": mixture_path.uniform_source}


@config
class FlowMatching:
    """Discrete flow matching."""

    kind: Literal["flow_matching"] = "flow_matching"
    schedule: FlowSchedule = Power()
    source: Literal["mask", "uniform"] = "mask"
    """The noise that paths start from."""
    kept: float = Field(default=0.0, ge=0, le=1)
    """Start with up to this share of the text in place, for infilling; how the paper draws it was not checked."""
    loss: Literal["generalised-kl", "cross-entropy"] = "generalised-kl"
    """A bound on the likelihood, or the paper's simpler loss."""
    sampler: Literal["euler", "reversal"] = "euler"
    """How text is written, and what the bound is of; "reversal" runs uniform noise backwards, as UDLM does."""
    churn: float = Field(default=0.0, ge=0)
    """Divergence-free term of Euler steps: columns also go back to noise and on again; corrects at a price in steps."""

    def build(self, vocab: int, mask_id: int) -> Family:
        """The family over `vocab` ids, [MASK] included; a uniform source never draws it.

        Raises:
            ConfigError: a reversal of masks, which is masked diffusion as it is, or of anything but uniform noise.
        """
        coupling = ConditionalCoupling(self.kept) if self.kept else None
        process = MixturePath(SOURCES[self.source](vocab, mask_id), self.schedule, coupling)
        loss = {"generalised-kl": generalised_kl(process), "cross-entropy": cross_entropy}[self.loss]
        if self.sampler == "reversal":
            if self.source == "mask":
                raise ConfigError("a mask source has no other way back: use sampler=euler, whose bound is tight")
            if self.kept:
                raise ConfigError("paths that keep a part of the text are not reversed: use sampler=euler, or kept=0")
            return reversal(process, loss, Uniform(vocab, self.schedule, mask_id))
        return flow_matching(process, loss, Euler(process, self.churn, partial(log_p, never=mask_id)))


def flow_matching(process: MixturePath, loss: TokenLoss, solver: Update) -> Family:
    """Flow matching on a process, with a token loss and a solver."""
    objective = Denoising(process, loss, Clipped(whole, EARLIEST, 1.0))
    alone = MixturePath(process.source, process.schedule)
    return Family(process, objective, TimeGrid(solver), bound=bound(alone))


def reversal(process: MixturePath, loss: TokenLoss, noise: Uniform) -> Family:
    """The same training on a uniform source, with the sampler and the bound of its noise run backwards."""
    nats = continuous(noise)

    def update(raw: Tensor, x_t: Tensor, t: Tensor, s: Tensor, rng: Rng) -> Tensor:
        return draw(step(noise, noise.alone(raw, x_t, t), x_t, t, s), rng)

    def token_loss(raw: Tensor, x_0: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        return nats(noise.alone(raw, x_t, t), x_0, x_t, t)

    # at t = 1 nothing may survive, and the integrand is 0 / 0
    tight = Denoising(noise, token_loss, Clipped(whole, 0.0, 1 - EARLIEST))
    return replace(flow_matching(process, loss, update), bound=tight)


def generalised_kl(process: MixturePath) -> TokenLoss:
    """The generalised KL divergence between true and predicted velocities; at least zero in every column."""

    def token_loss(raw: Tensor, x_0: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        return process.rate(t) * mixture_path.divergence(log_p(raw), x_0, x_t)

    return token_loss


def cross_entropy(raw: Tensor, x_0: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
    """-log p(x_0 | x_t) in every column, Float[B, L]."""
    return -log_p(raw).gather(-1, x_0[..., None])[..., 0]


def bound(process: MixturePath) -> Denoising:
    """The bound in nats per token, by levels: with kappa uniform the weight is 1 / (1 - kappa), on any schedule."""

    def token_loss(raw: Tensor, x_0: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        return mixture_path.divergence(log_p(raw), x_0, x_t) / (1 - process.alpha(t))

    levels = Clipped(whole, EARLIEST, 1.0)
    return Denoising(process, token_loss, lambda batch, rng: process.schedule.time(1 - levels(batch, rng)))
