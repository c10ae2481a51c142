"""Noise of a chain of T steps as a table: beta_t, the chance that a step acts, and powers by mutual information.

Float64[T], t = 1 .. T (D3PM, 2107.03006, sec. 4.1 and App. A.2-A.3).
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from mezzotint.errors import ConfigError


def standard(steps: int) -> Tensor:
    """Float64[T] of 1 / (T - t + 1): survival falls evenly to 0; the absorbing chain's, and the image code's "jsd"."""
    return 1 / torch.arange(steps, 0, -1, dtype=torch.float64)


def linear(steps: int, low: float, high: float, *, reached: bool = True) -> Tensor:
    """Float64[T], evenly from `low` to `high`.

    The paper reaches `high` at the last step; the text code's last step is one short of it, so it is not `reached`.
    """
    count = steps - 1 if reached else steps
    return low + torch.arange(steps, dtype=torch.float64) / max(count, 1) * (high - low)


def cosine(steps: int, s: float = 0.008) -> Tensor:
    """Float64[T] of 1 - f(t) / f(t - 1), at most 0.999, with f(t) = cos((t / T + s) / (1 + s) pi / 2), not squared."""
    f = torch.cos((torch.arange(steps + 1, dtype=torch.float64) / steps + s) / (1 + s) * math.pi / 2)
    return (1 - f[1:] / f[:-1]).clamp(0, 0.999)


def rounded(betas: Tensor) -> tuple[float, Tensor]:
    """Noise as powers of its smallest step: (that step, Long[T + 1] powers after 0 .. T steps)."""
    least = float(betas.min())
    total = torch.cat([torch.zeros(1, dtype=torch.float64), betas.double().cumsum(0)])
    return least, (total / least).round().long()


def by_information(after: Callable[[float], Tensor], p_0: Tensor, removed: Tensor, grid: Tensor) -> Tensor:
    """Exponents at which given shares of the information about x_0 are gone, Float64 like `removed` (App. A.3).

    Args:
        after: exponent -> Float64[V, V], the base transition raised to it.
        p_0: Float64[V], how often each clean token is.
        removed: shares of H(x_0), each inside what the grid spans: 1 - I(x_t; x_0) / H(x_0).
        grid: Float64[n], rising exponents between which a monotone cubic interpolates.
    """
    joint = [p_0[:, None] * after(float(exponent)) for exponent in grid]
    share = torch.stack([(_entropy(j) - _entropy(j.sum(0))) / _entropy(p_0) for j in joint])
    rising = torch.cat([torch.ones(1, dtype=torch.bool), share[1:] > share.cummax(0).values[:-1] + 1e-12])
    return monotone(share[rising], grid[rising].double(), removed)


def monotone(x: Tensor, y: Tensor, at: Tensor) -> Tensor:
    """The monotone cubic through (x, y), read at `at` (Fritsch and Butland 1984: weighted harmonic means as slopes).

    Args:
        x: Float[n], rising.
        y: Float[n].
        at: where to read; the result has the shape of it.

    Raises:
        ConfigError: fewer than three points, or x that does not rise.
    """
    if len(x) < 3 or bool((x.diff() <= 0).any()):
        raise ConfigError("a monotone curve needs at least three points whose x rises")
    h, d = x.diff(), y.diff() / x.diff()
    one, two = 2 * h[1:] + h[:-1], h[1:] + 2 * h[:-1]
    same = d[:-1] * d[1:] > 0
    inner = torch.where(
        same, (one + two) / (one / torch.where(same, d[:-1], 1.0) + two / torch.where(same, d[1:], 1.0)), 0.0
    )
    slope = torch.cat([_end(h[0], h[1], d[0], d[1])[None], inner, _end(h[-1], h[-2], d[-1], d[-2])[None]])
    cell = (torch.searchsorted(x, at, right=True) - 1).clamp(0, len(h) - 1)
    width = h[cell]
    u = (at - x[cell]) / width
    left = (1 + 2 * u) * (1 - u) ** 2 * y[cell] + u * (1 - u) ** 2 * width * slope[cell]
    return left + u**2 * (3 - 2 * u) * y[cell + 1] + u**2 * (u - 1) * width * slope[cell + 1]


def _end(near: Tensor, far: Tensor, d_near: Tensor, d_far: Tensor) -> Tensor:
    """Slope at an end: three-point formula, kept from overshooting."""
    slope = ((2 * near + far) * d_near - near * d_far) / (near + far)
    if slope.sign() != d_near.sign():
        return torch.zeros_like(slope)
    if d_near.sign() != d_far.sign() and slope.abs() > 3 * d_near.abs():
        return 3 * d_near
    return slope


def _entropy(p: Tensor) -> Tensor:
    return -torch.special.xlogy(p, p).sum()
