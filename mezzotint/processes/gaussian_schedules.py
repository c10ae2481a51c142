"""Noise of Gaussian chains as tables beta_1 .. beta_T, Float64[T], and the survival alpha-bar that they leave.

The named tables are those of Diffusion-LM (2205.14217, App. A and its code); "cosine" is that of 2102.09672, eq. 17.
Step k of a chain, 0 .. T - 1, ends at our time (k + 1) / T; time 0 is clean.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from mezzotint.errors import ConfigError

MOST = 0.999
"""The largest beta of tables that come from a curve."""
Curve = Callable[[Tensor], Tensor]
"""u in [0, 1] -> how much of the signal's variance should be left, up to a factor."""


def falling(steps: int, curve: Curve, *, dimmed: bool = False) -> Tensor:
    """The table Float64[T] that follows a curve: 1 - f((k + 1) / T) / f(k / T), at most 0.999.

    Its survival is relative to f(0); a table that is `dimmed` begins with a step down to f(0) and ends a step early.
    """
    f = curve(torch.arange(steps + 1, dtype=torch.float64) / steps)
    if dimmed:
        f = torch.cat([torch.ones(1, dtype=torch.float64), f[:-1]])
    return (1 - f[1:] / f[:-1]).clamp(max=MOST)


def sqrt(steps: int, s: float = 1e-4) -> Tensor:
    """Float64[T] of f = 1 - sqrt(u + s): much noise at once, since near embeddings little noise changes no token."""
    return falling(steps, lambda u: 1 - (u + s).sqrt())


def cosine(steps: int, s: float = 0.008) -> Tensor:
    """Float64[T] of f = cos((u + s) / (1 + s) pi / 2)^2."""
    return falling(steps, partial(_squared, s=s))


def trunc_cos(steps: int, s: float = 0.1) -> Tensor:
    """Float64[T]: the curve of `cosine` further on, and a first step down to where it begins."""
    return falling(steps, partial(_squared, s=s), dimmed=True)


def cosine_from(steps: int, first: float) -> Tensor:
    """Float64[T]: `cosine` with `first` as its first beta (SED, 2211.04236, sec. 4.1: 2e-3 at T = 1000).

    The paper tells the first beta and not how the curve gives way to it; here all others stay the curve's.  The curve's
    own first step loses 4e-5, less than the variance 1e-4 of the embeddings' spread.
    """
    betas = cosine(steps)
    betas[0] = first
    return betas


def linear(steps: int) -> Tensor:
    """Float64[T], evenly from 1e-4 to 0.02 at T = 1000, and as much noise in all at other T (2006.11239, sec. 4)."""
    return _evenly(1e-4 * 1000 / steps, 0.02 * 1000 / steps, steps)


def trunc_lin(steps: int) -> Tensor:
    """Float64[T]: `linear`, every beta larger by 0.01."""
    return linear(steps) + 0.01


def pw_lin(steps: int, head: int = 10) -> Tensor:
    """Float64[T]: `linear` after `head` steps that fall to its beginning from 0.01 above.

    Raises:
        ConfigError: fewer steps than the head has.
    """
    if steps <= head:
        raise ConfigError(f"a table whose first {head} steps fall needs more than {steps} steps")
    low, high = 1e-4 * 1000 / steps, 0.02 * 1000 / steps
    return torch.cat([_evenly(low + 0.01, low, head), _evenly(low, high, steps - head)])


TABLES: dict[str, Callable[[int], Tensor]] = {
    "sqrt": sqrt,
    "linear": linear,
    "cosine": cosine,
    "trunc_cos": trunc_cos,
    "trunc_lin": trunc_lin,
    "pw_lin": pw_lin,
}
"""By their published names."""


@dataclass(frozen=True, eq=False)
class Table:
    """A table as a schedule: alpha(k / T) is the product of 1 - beta over k steps, straight lines lie between."""

    levels: Tensor
    """Float64[T + 1], falling from 1: survival after 0 .. T steps."""

    @classmethod
    def of(cls, betas: Tensor) -> "Table":
        """The schedule of Float64[T] betas.

        Raises:
            ConfigError: a beta outside (0, 1).
        """
        if not bool(((betas > 0) & (betas < 1)).all()):
            raise ConfigError(
                f"cannot noise with betas from {float(betas.min())} to {float(betas.max())}: keep them in (0, 1)"
            )
        return cls(torch.cat([torch.ones(1, dtype=torch.float64), (1 - betas.double()).cumprod(0)]))

    @property
    def steps(self) -> int:
        """T."""
        return len(self.levels) - 1

    def betas(self) -> Tensor:
        """Float64[T]."""
        return 1 - self.levels[1:] / self.levels[:-1]

    def alpha(self, t: Tensor) -> Tensor:
        """Survival, alpha-bar in papers; computed in float64."""
        cell, share, levels = self._place(t)
        return (levels[cell] + share * (levels[cell + 1] - levels[cell])).to(t.dtype)

    def dalpha(self, t: Tensor) -> Tensor:
        """Its slope, that of the next cell at a corner."""
        cell, _, levels = self._place(t)
        return ((levels[cell + 1] - levels[cell]) * self.steps).to(t.dtype)

    def time(self, alpha: Tensor) -> Tensor:
        """The time of a survival, inside [0, 1]."""
        levels, wanted = self.levels.to(alpha.device), alpha.double()
        cell = (torch.searchsorted(-levels, -wanted.contiguous(), right=True) - 1).clamp(0, self.steps - 1)
        share = (levels[cell] - wanted) / (levels[cell] - levels[cell + 1])
        return ((cell + share) / self.steps).clamp(0, 1).to(alpha.dtype)

    def _place(self, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x = t.double() * self.steps
        # float32 times of whole steps are not quite whole
        x = torch.where((x - x.round()).abs() < 1e-3, x.round(), x).clamp(0, self.steps)
        cell = x.long().clamp(max=self.steps - 1)
        return cell, x - cell, self.levels.to(t.device)


def kept(steps: int, count: int) -> Tensor:
    """Long[count]: the steps of a chain that a sampler of fewer steps keeps, first and last among them (2102.09672).

    Raises:
        ConfigError: more steps than there are, or none.
    """
    if not 1 <= count <= steps:
        raise ConfigError(f"cannot keep {count} of {steps} steps: ask for 1 to {steps}")
    stride = (steps - 1) / (count - 1) if count > 1 else 1.0
    place, found = 0.0, []
    for _ in range(count):  # sums of strides, not multiples, as published: they differ in the last bit
        found.append(round(place))
        place += stride
    return torch.tensor(found)


@dataclass(frozen=True)
class Respaced:
    """Times of a plan that walks over the kept steps of a chain of `steps`: (k, count) -> the time before step k."""

    steps: int

    def __call__(self, k: int, count: int) -> float:
        if k == count:
            return 0.0
        return (int(kept(self.steps, count)[count - 1 - k]) + 1) / self.steps

    def schedule(self, schedule: Table, count: int) -> Table:
        """The chain of the kept steps only."""
        return Table(torch.cat([schedule.levels[:1], schedule.levels[kept(self.steps, count) + 1]]))


def _squared(u: Tensor, s: float) -> Tensor:
    return torch.cos((u + s) / (1 + s) * math.pi / 2) ** 2


def _evenly(low: float, high: float, count: int) -> Tensor:
    return torch.linspace(low, high, count, dtype=torch.float64)
