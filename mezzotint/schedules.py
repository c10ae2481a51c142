"""Noise schedules: how much of a clean sequence survives at time t.

t runs from 0 (clean) to 1 (noise).  alpha(t) is the survival level: the probability that a token is still itself
(discrete processes) or the share of signal variance left (Gaussian process, where papers write alpha-bar).
"""

import math
from dataclasses import dataclass, replace
from typing import Annotated, Literal, Protocol, runtime_checkable

import torch
from pydantic import Field
from torch import Tensor

from mezzotint.config import config
from mezzotint.plugins import OneOf


@runtime_checkable
class Survival(Protocol):
    """What every schedule gives; shapes and dtypes pass through."""

    def alpha(self, t: Tensor) -> Tensor:
        """Survival in [0, 1], strictly decreasing in t; shape and dtype of t."""
        ...

    def dalpha(self, t: Tensor) -> Tensor:
        """The derivative of alpha, at most 0; shape and dtype of t."""
        ...

    def time(self, alpha: Tensor) -> Tensor:
        """The inverse of alpha; shape and dtype of alpha."""
        ...


@config
class Linear:
    """alpha = 1 - (1 - eps) t.  "Log-linear" in MDLM (2406.07524, App. E.1); eps = 1e-3 gives LLaDA's."""

    kind: Literal["linear"] = "linear"
    eps: float = Field(default=1e-3, ge=0, lt=0.1)
    """Survival left at t = 1; above 0 it keeps log alpha finite."""

    def alpha(self, t: Tensor) -> Tensor:
        return 1 - (1 - self.eps) * t

    def dalpha(self, t: Tensor) -> Tensor:
        return torch.full_like(t, self.eps - 1)

    def time(self, alpha: Tensor) -> Tensor:
        return (1 - alpha) / (1 - self.eps)


@config
class Cosine:
    """alpha = eps + (1 - eps) cos(pi t / 2)^power: MDLM's "cosine" (1), "cosine squared" (2) (2406.07524, App. E.1)."""

    kind: Literal["cosine"] = "cosine"
    power: float = Field(default=1.0, gt=0)
    """1 or 2 in the literature; larger falls earlier."""
    eps: float = Field(default=1e-3, ge=0, lt=0.1)
    """Survival left at t = 1."""

    def alpha(self, t: Tensor) -> Tensor:
        return self.eps + (1 - self.eps) * torch.cos(math.pi / 2 * t) ** self.power

    def dalpha(self, t: Tensor) -> Tensor:
        angle = math.pi / 2 * t
        slope = self.power * torch.cos(angle) ** (self.power - 1) * torch.sin(angle)
        return -(1 - self.eps) * math.pi / 2 * slope

    def time(self, alpha: Tensor) -> Tensor:
        return torch.acos(((alpha - self.eps) / (1 - self.eps)) ** (1 / self.power)) * 2 / math.pi


@config
class Polynomial:
    """alpha = 1 - (1 - eps) t^power; 2 is BD3LM's "square", 1/2 its "square root" (2503.09573, App. C)."""

    kind: Literal["polynomial"] = "polynomial"
    power: float = Field(default=2.0, gt=0)
    """Above 1 the sequence stays clean for longer."""
    eps: float = Field(default=1e-3, ge=0, lt=0.1)
    """Survival left at t = 1."""

    def alpha(self, t: Tensor) -> Tensor:
        return 1 - (1 - self.eps) * t**self.power

    def dalpha(self, t: Tensor) -> Tensor:
        return -(1 - self.eps) * self.power * t ** (self.power - 1)

    def time(self, alpha: Tensor) -> Tensor:
        return ((1 - alpha) / (1 - self.eps)) ** (1 / self.power)


@config
class Geometric:
    """alpha = exp(-sigma), sigma = low^(1 - t) high^t: SEDD's geometric noise (2310.16834, sec. 5.1).

    alpha(0) = exp(-low) is a little below one.
    """

    kind: Literal["geometric"] = "geometric"
    low: float = Field(default=1e-3, gt=0)
    """Total noise at t = 0."""
    high: float = Field(default=20.0, gt=0)
    """Total noise at t = 1."""

    def alpha(self, t: Tensor) -> Tensor:
        return torch.exp(-self._sigma(t))

    def dalpha(self, t: Tensor) -> Tensor:
        sigma = self._sigma(t)
        return -torch.exp(-sigma) * sigma * math.log(self.high / self.low)

    def time(self, alpha: Tensor) -> Tensor:
        return torch.log(-torch.log(alpha) / self.low) / math.log(self.high / self.low)

    def _sigma(self, t: Tensor) -> Tensor:
        return self.low * (self.high / self.low) ** t


@config
class Exponential:
    """alpha = exp(-sigma), sigma = low + (high - low) t: a constant rate of noise, MDLM's "linear"."""

    kind: Literal["exponential"] = "exponential"
    low: float = Field(default=0.0, ge=0)
    """Total noise at t = 0."""
    high: float = Field(default=10.0, gt=0)
    """Total noise at t = 1."""

    def alpha(self, t: Tensor) -> Tensor:
        return torch.exp(-self.low - (self.high - self.low) * t)

    def dalpha(self, t: Tensor) -> Tensor:
        return -(self.high - self.low) * self.alpha(t)

    def time(self, alpha: Tensor) -> Tensor:
        return (-torch.log(alpha) - self.low) / (self.high - self.low)


@config
class Logarithmic:
    """alpha = 1 - log2(1 + t): BD3LM's "log" (2503.09573, App. C); noise comes early."""

    kind: Literal["logarithmic"] = "logarithmic"

    def alpha(self, t: Tensor) -> Tensor:
        return 1 - torch.log1p(t) / math.log(2)

    def dalpha(self, t: Tensor) -> Tensor:
        return -1 / (math.log(2) * (1 + t))

    def time(self, alpha: Tensor) -> Tensor:
        return torch.expm1((1 - alpha) * math.log(2))


@config
class Sqrt:
    """alpha = 1 - sqrt(s + (1 - s) t): Diffusion-LM's (2205.14217, App. A), which is 1 - sqrt(s + t) cut off at 0.

    At t = 0 the share sqrt(s) is lost at once: near embeddings, less noise changes no token.
    """

    kind: Literal["sqrt"] = "sqrt"
    s: float = Field(default=1e-4, ge=0, lt=1)

    def alpha(self, t: Tensor) -> Tensor:
        return 1 - (self.s + (1 - self.s) * t).sqrt()

    def dalpha(self, t: Tensor) -> Tensor:
        return -(1 - self.s) / 2 * (self.s + (1 - self.s) * t).rsqrt()

    def time(self, alpha: Tensor) -> Tensor:
        return ((1 - alpha).square() - self.s) / (1 - self.s)


@dataclass(frozen=True)
class Floored:
    """Another schedule of which at least the share `floor` is always lost: BD3LM's code, "square" and "square root"."""

    inner: Survival
    floor: float = 1e-3

    def alpha(self, t: Tensor) -> Tensor:
        return self.inner.alpha(t).clamp(max=1 - self.floor)

    def dalpha(self, t: Tensor) -> Tensor:
        """That of the other schedule, also where the floor holds."""
        return self.inner.dalpha(t)

    def time(self, alpha: Tensor) -> Tensor:
        return self.inner.time(alpha)


@dataclass(frozen=True)
class Dimmed:
    """(1 - share) times another schedule, which is then not clean at t = 0: BD3LM's code, "cosine"."""

    inner: Survival
    share: float = 1e-3

    def alpha(self, t: Tensor) -> Tensor:
        return (1 - self.share) * self.inner.alpha(t)

    def dalpha(self, t: Tensor) -> Tensor:
        return (1 - self.share) * self.inner.dalpha(t)

    def time(self, alpha: Tensor) -> Tensor:
        return self.inner.time(alpha / (1 - self.share))


def complete(schedule: Survival) -> Survival:
    """The same without what it leaves at t = 1, where it has an `eps`: its times then count everything."""
    return replace(schedule, eps=0.0) if isinstance(schedule, Linear | Cosine | Polynomial) else schedule


def total_noise(schedule: Survival, t: Tensor) -> Tensor:
    """sigma(t) = -log alpha(t), the time axis of SEDD and of MDLM's code; shape of t."""
    return -torch.log(schedule.alpha(t))


def noise_rate(schedule: Survival, t: Tensor) -> Tensor:
    """sigma'(t) = -alpha'(t) / alpha(t); shape of t."""
    return -schedule.dalpha(t) / schedule.alpha(t)


Schedule = Annotated[
    Survival,
    OneOf("schedules", Survival, (Linear, Cosine, Polynomial, Geometric, Exponential, Logarithmic, Sqrt)),
]
"""A field that takes any schedule: "cosine", {"kind": "cosine", "eps": 1e-2}, or one of another package."""
