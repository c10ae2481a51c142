"""DiffusionBERT's published loss (2211.15029; D3PM's eq. 5, 2107.03006), `spindle.py` in processes/ being the noise.

Both posteriors, of x_0 and of the network's p(x_0 | x_t), are told the survival of x_0's tokens up to s and step from
there by the average one.  Training only needs their difference to vanish with the network's error; as costs in nats
they are no bound, since a sampler does not know x_0.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from mezzotint.processes.spindle import Spindle

Read = Callable[[Tensor], Tensor]
"""Logits -> p(x_0 | x_t), both Float[B, L, V]."""
_TINY = 1e-20
"""Added to probabilities before their logarithm, as published."""


def _softmax(raw: Tensor) -> Tensor:
    return raw.softmax(-1)


def before(t: Tensor, steps: int, stride: int = 1) -> Tensor:
    """The time `stride` of `steps` steps before t, at least 0; shape of t."""
    return ((t * steps).round() - stride).clamp_min(0) / steps


@dataclass(frozen=True)
class DiffusionBERTLoss:
    """(raw, x_0, x_t, t) -> nats Float[B, L]; `stride` steps of T in one."""

    process: Spindle
    steps: int
    weight: float
    read: Read = _softmax
    stride: int = 1

    def __call__(self, raw: Tensor, x_0: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        return self.step(raw, x_0, x_t, t) + self.weight * self.cross_entropy(raw, x_0)

    def step(self, raw: Tensor, x_0: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """Nats of one step, Float[B, L]: KL(true, ours), at the first step -log p(x_0)."""
        true, ours = self.sides(raw, x_0, x_t, t)
        return torch.where(t * self.steps < self.stride + 0.5, nats(ours, x_0), self.kl(true, ours))

    def kl(self, true: Tensor, ours: Tensor) -> Tensor:
        """KL of two distributions over the ids, Float[B, L]."""
        return (true * ((true + _TINY).log() - (ours + _TINY).log())).sum(-1).clamp_min(0)

    def sides(self, raw: Tensor, x_0: Tensor, x_t: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """q(x_s | x_t, x_0) and p(x_s | x_t), Float[B, L, V]."""
        p0, s = self.read(raw), before(t, self.steps, self.stride)
        a_s, clean = self.process.alpha(s, x_0), F.one_hot(x_0, self.process.vocab).to(p0.dtype)
        return self.process.back(clean, x_t, a_s, s, t), self.process.back(p0, x_t, a_s, s, t)

    def cross_entropy(self, raw: Tensor, x_0: Tensor) -> Tensor:
        """-log p(x_0 | x_t)."""
        return nats(self.read(raw), x_0)


def nats(p: Tensor, x_0: Tensor) -> Tensor:
    """-log p(x_0), Float[B, L], of probabilities Float[B, L, V]."""
    return -(p.gather(-1, x_0[..., None])[..., 0] + _TINY).log()
