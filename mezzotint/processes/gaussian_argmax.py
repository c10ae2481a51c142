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
_HEIGHT, _CLEAN, _PLACE, _ORDER = range(1, 5)


def on_top(gamma: Tensor, ids: int) -> Tensor:
    """P, Float64 of the shape of gamma: the trapezoid rule, which is spectrally exact for such integrands."""
    x, weight = _kernel(gamma, ids)
    return weight.sum(-1) * (x[..., 1] - x[..., 0])


def climb(gamma: Tensor, ids: int) -> Tensor:
    """dP / dgamma, Float64 of the shape of gamma.

    dP / dm integrates (x - m) phi(x - m) Phi(x)^(N - 1), and dm / dgamma = -m / 2.
    """
    x, weight = _kernel(gamma, ids)
    m = _mean(gamma)
    return -m / 2 * ((x - m[..., None]) * weight).sum(-1) * (x[..., 1] - x[..., 0])


def survival(p: Tensor, ids: int) -> Tensor:
    """T = (N P - 1) / (N - 1), of the shape of P."""
    return (ids * p - 1) / (ids - 1)


def series(gamma: Tensor, ids: int, count: int = 60) -> tuple[Tensor, Tensor]:
    """T and dT / dgamma by powers of m, Float64 of the shape of gamma (Duo++, arXiv 2602.21185, App.).

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
class GaussianArgmax:
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
        """Its derivative by t, Float64 of the shape of t."""
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


@dataclass(frozen=True)
class Largest:
    """w of the clean id and of the few other ids where it is largest, drawn without the rest (2602.21185, App.).

    With a small temperature that is all of softmax(w / tau) that matters, and the cost no longer grows with N.
    """

    clean: Tensor
    """Float64[B, L]: w of the clean id."""
    others: Tensor
    """Float64[B, L, K]: the largest w of all other ids, falling."""
    ids: Tensor
    """Long[B, L, K]: where they are."""
    spread: Tensor
    """Float64[B, L]: standard deviation of the noise."""
    rest: int
    """How many other ids are left out, all of them below the last of `others`."""

    def softmax(self, tau: float) -> tuple[Tensor, Tensor]:
        """Weights of the clean id, Float64[B, L], and of `ids`, Float64[B, L, K]; the rest shares what lacks to one.

        The rest counts by the mean of exp(w / tau) below the last of the others, as published.
        """
        top = torch.cat([self.clean[..., None], self.others], -1) / tau
        last, spread = self.others[..., -1] / tau, self.spread / tau
        below = spread**2 / 2 + torch.special.log_ndtr(last / spread - spread) - torch.special.log_ndtr(last / spread)
        rest = torch.full_like(below, float(self.rest)).log() + below
        weights = torch.cat([top, rest[..., None]], -1).softmax(-1)
        return weights[..., 0], weights[..., 1:-1]

    def highest(self, x_0: Tensor) -> Tensor:
        """Long[B, L]: the id with the largest w of all."""
        return torch.where(self.clean > self.others[..., 0], x_0, self.ids[..., 0])


def largest(gaussian: GaussianArgmax, x_0: Tensor, t: Tensor, few: int, rng: Rng, never: int | None = None) -> Largest:
    """The clean id's w and the `few` largest others, for Long[B, L] clean ids and Float[B, 1|L] times."""
    n, shape, device = gaussian.ids - 1, (*x_0.shape, few), x_0.device
    gamma = gaussian.gamma(t).double().expand(x_0.shape)
    signal, spread = (-gamma).sigmoid().sqrt(), gamma.sigmoid().sqrt()
    # the largest of n uniform numbers is a uniform one to the power 1 / n; the next, of n - 1 below it
    left = torch.arange(n, n - few, -1, device=device)
    heights = (rng.fork(_HEIGHT).uniform(shape, device).log() / left).cumsum(-1).exp()
    clean = signal + spread * torch.special.ndtri(rng.fork(_CLEAN).uniform((*x_0.shape,), device))
    place = _distinct(n, shape, rng, device)
    own = x_0 if never is None else x_0 - (x_0 > never).long()
    place = place + (place >= own[..., None])
    ids = place if never is None else place + (place >= never)
    return Largest(clean, spread[..., None] * torch.special.ndtri(heights), ids, spread, n - few)


def _distinct(n: int, shape: tuple[int, ...], rng: Rng, device: torch.device) -> Tensor:
    """Long: distinct numbers below n along the last axis, any of them in any order equally likely (Floyd's sample)."""
    few, drawn = shape[-1], rng.fork(_PLACE).uniform(shape, device)
    found = torch.full(shape, -1, device=device)
    for k in range(few):
        guess = (drawn[..., k] * (n - few + k + 1)).long()
        taken = (found == guess[..., None]).any(-1)
        found[..., k] = torch.where(taken, n - few + k, guess)
    # its set is even, its order is not: the last number can only come last
    return found.gather(-1, rng.fork(_ORDER).uniform(shape, device).argsort(-1))


def _mean(gamma: Tensor) -> Tensor:
    return torch.exp(-gamma.double() / 2)


def _kernel(gamma: Tensor, ids: int) -> tuple[Tensor, Tensor]:
    """Nodes around m and phi(x - m) Phi(x)^(N - 1) there, Float64[..., nodes]."""
    x = _mean(gamma)[..., None] + torch.linspace(-_REACH, _REACH, _NODES, dtype=torch.float64, device=gamma.device)
    inside = -((x - _mean(gamma)[..., None]) ** 2) / 2 + (ids - 1) * torch.special.log_ndtr(x)
    return x, inside.exp() / math.sqrt(2 * math.pi)
