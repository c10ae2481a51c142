"""Uniform noise as the argmax of Gaussian noise: the operator T of Duo (Sahoo et al. 2025, arXiv 2506.10892, sec. 3).

On one-hot columns of N ids, w = a x_0 + s eps with a^2 = sigmoid(-gamma), s^2 = sigmoid(gamma).  argmax w has the
marginals of uniform noise with survival T = (N P - 1) / (N - 1), where P is the chance that the clean id stays on top,
P = integral of phi(x - m) Phi(x)^(N - 1) dx with m = a / s = exp(-gamma / 2).  Only marginals agree, not the chains.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from mezzotint.rng import Rng

_REACH = 12.0
_NODES = 4001


def on_top(gamma: Tensor, ids: int) -> Tensor:
    """P, Float64 of the shape of gamma: the trapezoid rule, which is spectrally exact for such integrands."""
    x, weight = _kernel(gamma, ids)
    return weight.sum(-1) * (x[..., 1] - x[..., 0])


def climb(gamma: Tensor, ids: int) -> Tensor:
    """dP / dgamma, Float64: dP / dm integrates (x - m) phi(x - m) Phi(x)^(N - 1), and dm / dgamma = -m / 2."""
    x, weight = _kernel(gamma, ids)
    m = _mean(gamma)
    return -m / 2 * ((x - m[..., None]) * weight).sum(-1) * (x[..., 1] - x[..., 0])


def survival(p: Tensor, ids: int) -> Tensor:
    """T = (N P - 1) / (N - 1)."""
    return (ids * p - 1) / (ids - 1)


def series(gamma: Tensor, ids: int, count: int = 60) -> tuple[Tensor, Tensor]:
    """T and dT / dgamma by powers of m, Float64 (Duo++, arXiv 2602.21185, App.).

    P = exp(-m^2 / 2) sum over k of m^k / k! M_k, M_k = integral of x^k phi(x) Phi(x)^(N - 1) dx;
    60 terms are too few for gamma below -3, where the integral is to be taken.
    """
    x = torch.linspace(-_REACH, _REACH, _NODES, dtype=torch.float64)
    base = torch.exp(-(x**2) / 2 + (ids - 1) * torch.special.log_ndtr(x)) / math.sqrt(2 * math.pi)
    m, step = _mean(gamma), x[1] - x[0]
    p, slope = torch.zeros_like(m), torch.zeros_like(m)
    for k in range(count):
        term = m**k / float(math.factorial(k)) * step
        p, slope = p + term * (base * x**k).sum(), slope + term * (base * x ** (k + 1)).sum()
    decay = torch.exp(-(m**2) / 2)
    rate = -m / 2 * decay * (slope - m * p)
    return survival(decay * p, ids), rate * ids / (ids - 1)


@dataclass(frozen=True)
class Gaussian:
    """Noise levels gamma = low + t (high - low) and the survival they stand for, t in [0, 1]."""

    ids: int
    low: float = -3.5
    high: float = -1.75
    points: int = 2049
    """Entries of the table that survival is read from, by linear interpolation."""

    def __post_init__(self) -> None:
        gamma = torch.linspace(self.low, self.high, self.points, dtype=torch.float64)
        rate = climb(gamma, self.ids) * self.ids / (self.ids - 1) * (self.high - self.low)
        # rounding may take a survival past 1, where a schedule's time is negative and its square root no number
        alpha = survival(on_top(gamma, self.ids), self.ids).clamp(0, 1)
        object.__setattr__(self, "_tables", (alpha, rate))

    def gamma(self, t: Tensor) -> Tensor:
        """The level, shape and dtype of t."""
        return self.low + t * (self.high - self.low)

    def alpha(self, t: Tensor) -> Tensor:
        """T(gamma(t)), Float64."""
        return self._read(0, t)

    def dalpha(self, t: Tensor) -> Tensor:
        """Its derivative by t, Float64."""
        return self._read(1, t)

    def blur(self, x_0: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """w = a x_0 + s noise, Float[B, L, V]; ids beyond the N real ones have noise of -inf.

        Args:
            x_0: Long[B, L].
            t: Float[B, 1|L].
            noise: Float[B, L, V], standard normal.
        """
        gamma = self.gamma(t)[..., None].to(noise.dtype)
        clean = torch.zeros_like(noise).scatter(-1, x_0[..., None], 1.0)
        return (-gamma).sigmoid().sqrt() * clean + gamma.sigmoid().sqrt() * noise

    def prior(self) -> float:
        """KL in nats between the marginal at t = 1 and pure noise: what a bound over these levels leaves out."""
        a = float(self.alpha(torch.ones(1, dtype=torch.float64)))
        high, rest = a + (1 - a) / self.ids, (1 - a) / self.ids
        return high * math.log(self.ids * high) + (self.ids - 1) * rest * math.log(self.ids * rest)

    def _read(self, which: int, t: Tensor) -> Tensor:
        table = self._tables[which].to(t.device)  # pyright: ignore[reportAttributeAccessIssue]
        place = t.double().clamp(0, 1) * (self.points - 1)
        left = place.long().clamp(max=self.points - 2)
        share = place - left
        return (1 - share) * table[left] + share * table[left + 1]


def normal(x: Tensor, ids: int, rng: Rng, never: int | None) -> Tensor:
    """Float32[B, L, V] for Long[B, L] x and V `ids`, standard normal; -inf at the id `never`."""
    noise = torch.special.ndtri(rng.uniform((x.shape[0], x.shape[1], ids), x.device)).float()
    return noise if never is None else noise.index_fill(-1, torch.tensor(never, device=noise.device), -torch.inf)


def _mean(gamma: Tensor) -> Tensor:
    return torch.exp(-gamma.double() / 2)


def _kernel(gamma: Tensor, ids: int) -> tuple[Tensor, Tensor]:
    """Nodes around m and phi(x - m) Phi(x)^(N - 1) there, Float64[..., nodes]."""
    x = _mean(gamma)[..., None] + torch.linspace(-_REACH, _REACH, _NODES, dtype=torch.float64, device=gamma.device)
    inside = -((x - _mean(gamma)[..., None]) ** 2) / 2 + (ids - 1) * torch.special.log_ndtr(x)
    return x, inside.exp() / math.sqrt(2 * math.pi)
