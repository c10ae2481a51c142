"""UDLM: uniform diffusion language models, and discrete guidance (Schiff et al. 2024, arXiv 2412.10193).

Process   processes/uniform.py, over all ids but the tokenizer's [MASK] (the paper's code draws that too)
Loss      eq. 17, in the form of GIDD's Theorem 2 (processes/interpolating.py `weight`, `divergence`), which is equal:
          -alpha' / (alpha N q(x_t | x_0)) (KL(q(. | x_0), q(. | x_theta)) + r - log r - 1), q the marginals at t; eq.
          14 for T steps: `finite`, whose last step is the reconstruction.  Ours: `even`, plain cross-entropy
Network   sec. 4: softmax over the clean token, nothing carried over, given t; best is the leave-one-out posterior,
          which does not look at the column's own token
Sampler   the posterior step, eq. 15: every column may change in every step
Guidance  sec. 3: D-CFG and D-CBG in decode/guidance/classifier.py, on `step` here or on MDLM's; trained by
          objectives/class_conditional.py
Checked   tests/parity/test_udlm_guidance.py (recorded), tests/oracles/test_uniform_bounds.py (enumeration)
"""

from dataclasses import replace
from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from mezzotint.config import config
from mezzotint.decode.samplers.time_grid import TimeGrid
from mezzotint.families.base import Family, informed, log_p
from mezzotint.objectives import times
from mezzotint.objectives.denoising import Denoising, TokenLoss
from mezzotint.processes.uniform import Uniform
from mezzotint.rng import Rng, draw
from mezzotint.schedules import Linear, Schedule


@config
class UDLM:
    """Uniform diffusion with the continuous-time bound."""

    kind: Literal["udlm"] = "udlm"
    schedule: Schedule = Linear()
    steps: int | None = Field(default=None, gt=0)
    """Train on the bound of a chain of this many steps; None is continuous time."""
    weights: Literal["bound", "even"] = "bound"
    """"even": train on the cross-entropy of p(x_0 | x_t), which is the network's answer times q(x_t | x_0): the best
    answer is the same and gradients are less noisy.  `Family.bound` stays the bound."""

    def build(self, vocab: int, mask_id: int) -> Family:
        """The family over `vocab` ids, of which [MASK] is never drawn."""
        process = Uniform(vocab, self.schedule, mask_id)
        family = udlm(process, self.steps)
        if self.weights == "bound":
            return family
        return replace(
            family, objective=Denoising(process, informed(process.seen, process.never)), bound=family.objective
        )


def udlm(process: Uniform, steps: int | None = None) -> Family:
    """UDLM on a process; `steps` as in the settings."""
    if steps is None:
        objective = Denoising(process, continuous(process))
    else:
        objective = Denoising(process, finite(process, steps), times.DiscreteTimes(times.whole, steps))

    def update(raw: Tensor, x_t: Tensor, t: Tensor, s: Tensor, rng: Rng) -> Tensor:
        return draw(step(process, raw, x_t, t, s), rng)

    return Family(process, objective, TimeGrid(update), chances=partial(step, process))


def continuous(process: Uniform) -> TokenLoss:
    """Eq. 17; its mean over t is the bound on -log p."""

    def token_loss(raw: Tensor, x_0: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        p0 = log_p(raw, process.never).exp()
        return process.weight(x_0, x_t, t).to(p0.dtype) * process.divergence(p0, x_0, x_t, t)

    return token_loss


def finite(process: Uniform, steps: int) -> TokenLoss:
    """Eq. 14: T KL(q(x_s | x_t, x_0), p(x_s | x_t)) with s = t - 1 / T."""

    def token_loss(raw: Tensor, x_0: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        s = (t.double() - 1 / steps).clamp_min(0)
        s = torch.where(s < 0.5 / steps, 0.0, s)
        clean = F.one_hot(x_0, process.vocab).double()
        true, model = (between(process, p0, x_t, t, s) for p0 in (clean, log_p(raw, process.never).exp().double()))
        nats = torch.xlogy(true, true) - torch.xlogy(true, model.clamp_min(torch.finfo(torch.float64).tiny))
        return (steps * nats.sum(-1)).to(torch.promote_types(raw.dtype, torch.float32))

    return token_loss


def reconstruction(process: Uniform, raw: Tensor, x_0: Tensor) -> Tensor:
    """Float[B, L]: -log p(x_0) of an answer at t near 0; published losses leave it out, and `finite` has it inside."""
    return -log_p(raw, process.never).gather(-1, x_0[..., None])[..., 0]


def step(process: Uniform, raw: Tensor, x_t: Tensor, t: Tensor, s: Tensor) -> Tensor:
    """Float[B, L, V]: eq. 15 with the network's prediction."""
    return between(process, log_p(raw, process.never).exp().double(), x_t, t, s)


def between(process: Uniform, p0: Tensor, x_t: Tensor, t: Tensor, s: Tensor) -> Tensor:
    """The posterior Float[B, L, V] at times; at s = 0 nothing is noise, whatever survival the schedule has there."""
    a_s = torch.where(s <= 0, 1.0, process.alpha(s.double()))
    return process.posterior(p0, x_t, process.alpha(t.double()), a_s)
