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
          q(x_t | x_0), runs UDLM's steps with its tight bound; "ddim" and sweeps: decode/samplers/gibbs_corrector.py
Checked   tests/parity/test_discrete_flow_matching.py (recorded vectors), tests/oracles/test_flow_matching.py
"""

from dataclasses import replace
from functools import partial
from typing import Literal

from pydantic import Field
from torch import Tensor

from mezzotint.config import config
from mezzotint.decode.samplers.flow_euler import Euler
from mezzotint.decode.samplers.gibbs_corrector import DiscreteDDIM, GibbsCorrector
from mezzotint.decode.samplers.time_grid import TimeGrid, Update
from mezzotint.errors import ConfigError
from mezzotint.families.base import Family, informed, log_p, with_corrector
from mezzotint.families.udlm import continuous, step
from mezzotint.objectives.denoising import Denoising, TokenLoss
from mezzotint.objectives.times import Clipped, whole
from mezzotint.processes import mixture_path
from mezzotint.processes.mixture_path import ConditionalCoupling, FlowSchedule, MixturePath, Power
from mezzotint.processes.uniform import Uniform
from mezzotint.rng import Rng, draw

EARLIEST = 1e-3
"""Times nearer to the clean end are not trained on: the rate is unbounded there."""
cross_entropy = informed(lambda raw, x_t, t: raw, None)
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
    sampler: Literal["euler", "reversal", "ddim"] = "euler"
    """How text is written, and what the bound is of; others than "euler" run uniform noise backwards."""
    churn: float = Field(default=0.0, ge=0)
    """Divergence-free term of Euler steps: columns also go back to noise and on again; corrects at a price in steps."""
    gibbs: GibbsCorrector = GibbsCorrector()

    def build(self, vocab: int, mask_id: int) -> Family:
        """The family over `vocab` ids, [MASK] included.

        Raises:
            ConfigError: other paths run backwards.
        """
        coupling = ConditionalCoupling(self.kept) if self.kept else None
        process = MixturePath(SOURCES[self.source](vocab, mask_id), self.schedule, coupling)
        loss = {"generalised-kl": generalised_kl(process), "cross-entropy": cross_entropy}[self.loss]
        if (self.sampler != "euler" or self.gibbs.sweeps) and (self.source == "mask" or self.kept):
            asked = "gibbs.sweeps" if self.sampler == "euler" else f"sampler={self.sampler}"
            raise ConfigError(f"{asked} runs uniform noise backwards: use source=uniform and kept=0, or sampler=euler")
        made = flow_matching(process, loss, Euler(process, self.churn, partial(log_p, never=mask_id)))
        if self.sampler != "euler":
            made = reversal(process, loss, Uniform(vocab, self.schedule, mask_id))
        rule = DiscreteDDIM(self.schedule, 1.0, mask_id) if self.sampler == "ddim" else made.rule
        if self.gibbs.sweeps and rule is not None:
            return with_corrector(made, self.gibbs.rule(rule, self.schedule, mask_id), self.gibbs.plan)
        return replace(made, rule=rule)


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


def bound(process: MixturePath) -> Denoising:
    """The bound in nats per token, by levels: with kappa uniform the weight is 1 / (1 - kappa), on any schedule."""

    def token_loss(raw: Tensor, x_0: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        return mixture_path.divergence(log_p(raw), x_0, x_t) / (1 - process.alpha(t))

    levels = Clipped(whole, EARLIEST, 1.0)
    return Denoising(process, token_loss, lambda batch, rng: process.schedule.time(1 - levels(batch, rng)))
