"""ReMDM: a masked model whose sampler may take tokens back (Wang et al. 2025, arXiv 2503.00307).

Process   processes/absorbing.py `remasked`: for every sigma up to sigma_max = min(1, (1 - a_s) / a_t) the marginals
          are those of MDLM (sec. 3), so a trained MDLM serves as it is
Loss      MDLM's: the bound is the same up to its weights
Sampler   sec. 4: sigma capped, rescaled, shared out by confidence, switched on in a loop; the forward-backward and
          the discrete-flow correctors are further choices of sigma.  sigma is never above sigma_max, so the last step
          reveals all that is left
Checked   tests/parity/test_remdm.py: the published code's probabilities and next tokens for every strategy; the
          expected number of masks is L (1 - a_s) for all but `confident`
"""

from dataclasses import replace
from typing import Annotated, Literal, Protocol

import torch
from pydantic import Field
from torch import Tensor

from mezzotint.config import Named, config
from mezzotint.decode.canvas import Canvas, Step
from mezzotint.decode.nucleus import nucleus
from mezzotint.decode.rule import Rule
from mezzotint.decode.samplers.redraw import drawn, noisy
from mezzotint.decode.samplers.remdm import Cap, Confident, Flow, ForwardBackward, Loop, Rescale
from mezzotint.families.base import Family
from mezzotint.families.mdlm import MDLM
from mezzotint.processes.absorbing import Absorbing
from mezzotint.processes.subs import subs
from mezzotint.rng import Rng, draw
from mezzotint.schedules import Linear, Schedule, Survival

Strategy = Annotated[Cap | Rescale | Confident | Loop | ForwardBackward | Flow, Field(discriminator="kind"), Named]


class Remasking(Protocol):
    """When, how much and where to take back."""

    def levels(self, schedule: Survival, t: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
        """The survivals a_t and a_s of a step, Float[B, 1]."""
        ...

    def sigma(self, t: Tensor, a_t: Tensor, a_s: Tensor, conf: Tensor) -> Tensor:
        """Float[B, 1] or [B, W]: the chance of being masked again.

        `conf` is minus the probability with which a column was written, -inf where it is masked.
        """
        ...


@config
class ReMDM:
    """Masked diffusion, sampled with remasking."""

    kind: Literal["remdm"] = "remdm"
    schedule: Schedule = Linear()
    weights: Literal["bound", "even"] = "bound"
    """As in MDLM."""
    strategy: Strategy = Cap()
    nucleus: float = Field(default=0.9, gt=0, le=1)
    """Probability mass that may be drawn from."""

    def build(self, vocab: int, mask_id: int) -> Family:
        """The family over `vocab` ids, [MASK] included."""
        trained = MDLM(schedule=self.schedule, weights=self.weights).build(vocab, mask_id)
        process = Absorbing(vocab, mask_id, self.schedule)
        return replace(trained, rule=remasking(process, self.strategy, self.nucleus), chances=None)


def probabilities(
    process: Absorbing, strategy: Remasking, p0: Tensor, x_t: Tensor, conf: Tensor, t: Tensor, s: Tensor
) -> Tensor:
    """Float[B, W, V]: q(x_s | x_t) with the strategy's sigma, for predictions `p0` that carry revealed tokens over."""
    a_t, a_s = strategy.levels(process.schedule, t, s)
    most = ((1 - a_s) / a_t).clamp(max=1.0)
    sigma = torch.minimum(strategy.sigma(t, a_t, a_s, conf), most)
    return process.remasked(p0, x_t, a_t, a_s, sigma)


def remasking(process: Absorbing, strategy: Remasking, mass: float = 1.0) -> Rule:
    """The sampler as a rule: every column of the window that is not given is drawn from `probabilities`."""

    def rule(raw: Tensor, canvas: Canvas, step: Step, rng: Rng) -> Canvas:
        columns, x_t = step.window.columns(), noisy(canvas, step, process.mask_id)
        p0 = nucleus(subs(raw.double(), x_t, process.mask_id).exp(), mass)
        unwritten = (canvas.open | canvas.fixed).gather(-1, columns)
        conf = (-canvas.score.gather(-1, columns)).masked_fill(unwritten, -torch.inf)
        x_s = draw(probabilities(process, strategy, p0, x_t, conf, step.t, step.s), rng)
        return drawn(canvas, step, x_s, process.mask_id, p0)

    return rule
