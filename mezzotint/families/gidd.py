"""GIDD: generalised interpolating discrete diffusion (von Ruette et al. 2025, arXiv 2503.04482).

Process   processes/mixture.py (sec. 4, gamma = 1): masks and up to a share p_u of random tokens at once
Loss      Theorem 2, processes/interpolating.py: w (KL(q_t(. | x_0), q_t(. | x_theta)) + r - log r - 1), where w = c_z /
          q_t(z | x_0), eq. 11, is the bound's; training takes the "dynamic" weights of sec. 4.3, at most 2, or the
          bound's clipped at 2; t in [1e-4, 1 - 1e-4].  "dynamic" is the code's, with sigmoid(-t) where the paper has
          the log signal-to-noise ratio
Network   softmax over the clean token with no mass on [MASK], conditioned on t; nothing is carried over
Sampler   the plug-in posterior, eq. 9, from all [MASK], optionally without chances below `min_p`; the published one
          starts one step late and leaves masks at its end.  Self-correction of finished texts:
          decode/samplers/self_correction.py
Bound     its own weights, t in (1e-7, 1 - 1e-7); the published range leaves out 0.01 to 0.06 nats per token if p_u > 0
Checked   tests/parity/test_gidd.py (recorded), tests/oracles/test_uniform_bounds.py (enumeration)
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from mezzotint.batch import Batch
from mezzotint.config import config
from mezzotint.decode.samplers.time_grid import TimeGrid
from mezzotint.families.base import Family, log_p
from mezzotint.objectives.denoising import Denoising, TokenLoss
from mezzotint.processes.mixture import Mixture
from mezzotint.rng import Rng, draw

_TIMES = 0x61DD
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

    def build(self, vocab: int, mask_id: int) -> Family:
        """The family over `vocab` ids, [MASK] included."""
        process = Mixture(vocab, mask_id, self.uniform)
        return gidd(process, self.weigh(process), Even(self.eps), self.min_p)

    def weigh(self, process: Mixture) -> Weights:
        """The training weights."""
        return {
            "dynamic": lambda x_0, x_t, t: dynamic(process, x_0, x_t, t).clamp(0, self.most),
            "clip": lambda x_0, x_t, t: process.weight(x_0, x_t, t).clamp(0, self.most),
            "none": process.weight,
        }[self.weights]


@dataclass(frozen=True)
class Even:
    """Float[B, 1]: times spread evenly over [eps, 1 - eps], all moved on by one uniform draw."""

    eps: float

    def __call__(self, batch: Batch, rng: Rng) -> Tensor:
        device = batch.tokens.device
        return self.at(len(batch.tokens), rng.fork(_TIMES).uniform((len(batch.tokens),), device)[:1])[:, None]

    def at(self, rows: int, shift: Tensor) -> Tensor:
        """Float64[rows] for a shift Float64[1]."""
        cells = torch.arange(rows, device=shift.device, dtype=torch.float64) / rows
        return self.eps + (1 - 2 * self.eps) * ((cells + shift) % 1)


def gidd(process: Mixture, weigh: Weights, times: Even, min_p: float = 0.0) -> Family:
    """GIDD on a process, with training weights and times."""

    def update(raw: Tensor, x_t: Tensor, t: Tensor, s: Tensor, rng: Rng) -> Tensor:
        return draw(step(process, raw, x_t, t, s, min_p), rng)

    bound = Denoising(process, loss(process, process.weight), Even(1e-7))
    return Family(process, Denoising(process, loss(process, weigh), times), TimeGrid(update), bound=bound)


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


def terms(process: Mixture, weigh: Weights, raw: Tensor, x_0: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
    """Float64[3, B, L]: both terms of the divergence and the training weights; the code logs means under them."""
    return torch.stack([*process.parts(log_p(raw, process.mask_id).exp().double(), x_0, x_t, t), weigh(x_0, x_t, t)])
