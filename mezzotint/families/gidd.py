"""GIDD: generalised interpolating discrete diffusion (von Ruette et al. 2025, arXiv 2503.04482).

Process   processes/mixture.py (sec. 4, gamma = 1): masks and up to a share p_u of random tokens at once
Loss      Theorem 2, processes/interpolating.py: w (KL(q_t(. | x_0), q_t(. | x_theta)) + r - log r - 1), where w = c_z /
          q_t(z | x_0), eq. 11, is the bound's; training takes the "dynamic" weights of sec. 4.3, at most 2, or the
          bound's clipped at 2; t in [1e-4, 1 - 1e-4].  "dynamic" is the code's, with sigmoid(-t) where the paper has
          the log signal-to-noise ratio
Network   softmax over the clean token with no mass on [MASK], conditioned on t; nothing is carried over
Sampler   the plug-in posterior, eq. 9, from all [MASK], optionally without chances below `min_p`; the published one
          starts one step late and leaves masks at its end.  Then self-correction: decode/samplers/self_correction.py
Bound     its own weights, t in (1e-7, 1 - 1e-7); the published range leaves out 0.01 to 0.06 nats per token if p_u > 0
Checked   tests/parity/test_gidd.py (recorded), tests/oracles/test_uniform_bounds.py (enumeration)
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from mezzotint.config import config
from mezzotint.decode.samplers.self_correction import SelfCorrection, correcting, then_corrected
from mezzotint.decode.samplers.time_grid import TimeGrid
from mezzotint.families.base import Family, log_p, with_corrector
from mezzotint.objectives.denoising import Denoising, TokenLoss
from mezzotint.objectives.times import EvenTimes
from mezzotint.processes.mixture import Mixture
from mezzotint.rng import draw

Weights = Callable[[Tensor, Tensor, Tensor], Tensor]  # (x_0, x_t, t) -> Float64[B, L]


@config
class GIDD:
    """Masks and random tokens at once."""

    kind: Literal["gidd"] = "gidd"
    uniform: float = Field(default=0.1, ge=0, lt=1)
    """Largest share of random tokens, at t = 1/2; 0 is masked diffusion."""
    weights: Literal["dynamic", "clip", "none"] = "dynamic"
    """What a column counts for in training; "none" trains on the bound itself, the others up to `most`."""
    most: float = Field(default=2.0, gt=0)
    eps: float = Field(default=1e-4, gt=0, lt=0.5)
    """Training times lie in [eps, 1 - eps]."""
    min_p: float = Field(default=0.0, ge=0, lt=1)
    """The sampler drops chances below this."""
    corrections: int = Field(default=0, ge=0)
    """Passes of self-correction over the finished text, at most."""

    def build(self, vocab: int, mask_id: int) -> Family:
        """The family over `vocab` ids, [MASK] included."""
        process = Mixture(vocab, mask_id, self.uniform)
        made = gidd(process, self.weigh(process), EvenTimes(self.eps), self.min_p)
        if not self.corrections:
            return made
        rule = correcting(sampler(process, self.min_p), SelfCorrection(never=mask_id))
        return with_corrector(made, rule, partial(then_corrected, passes=self.corrections))

    def weigh(self, process: Mixture) -> Weights:
        """The training weights."""
        return {
            "dynamic": lambda x_0, x_t, t: dynamic(process, x_0, x_t, t).clamp(0, self.most),
            "clip": lambda x_0, x_t, t: process.weight(x_0, x_t, t).clamp(0, self.most),
            "none": process.weight,
        }[self.weights]


def gidd(process: Mixture, weigh: Weights, times: EvenTimes, min_p: float = 0.0) -> Family:
    """GIDD on a process, with training weights and times."""
    bound = Denoising(process, loss(process, process.weight), EvenTimes(1e-7))
    return Family(process, Denoising(process, loss(process, weigh), times), sampler(process, min_p), bound=bound)


def sampler(process: Mixture, min_p: float = 0.0) -> TimeGrid:
    """Steps of the plug-in posterior."""
    return TimeGrid(lambda raw, x_t, t, s, rng: draw(step(process, raw, x_t, t, s, min_p), rng))


def loss(process: Mixture, weigh: Weights) -> TokenLoss:
    """Theorem 2's divergence under the given weights."""

    def token_loss(raw: Tensor, x_0: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        # in float64: near the clean end the divergence is small beside its terms
        p0 = log_p(raw, process.mask_id).exp().double()
        nats = weigh(x_0, x_t, t) * process.divergence(p0, x_0, x_t, t)
        return nats.to(torch.promote_types(raw.dtype, torch.float32))

    return token_loss


def dynamic(process: Mixture, x_0: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
    """Float[B, L]: 2 on masks, 1 on wrong tokens, (B / V) exp(sigmoid(-t) / 2) on right ones; sec. 4.3, the code's."""
    right = math.exp(process.hybrid.log_b) / process.vocab * (torch.sigmoid(-t.double()) / 2).exp()
    wrong = torch.where(x_t == process.mask_id, 2.0, 1.0).double()
    return torch.where(x_t == x_0, right, wrong)


def step(process: Mixture, raw: Tensor, x_t: Tensor, t: Tensor, s: Tensor, min_p: float = 0.0) -> Tensor:
    """Float64[B, L, V]: eq. 9 with the network's prediction, without chances below `min_p`."""
    p = process.back(log_p(raw, process.mask_id).exp().double(), x_t, t, s)
    kept = torch.where((p >= min_p) | (p >= p.amax(-1, keepdim=True)), p, 0.0)
    return kept / kept.sum(-1, keepdim=True)
