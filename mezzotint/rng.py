"""Noise that is a pure function of (seed, step, column, token).

No generator carries state: the same four numbers give the same noise in any order, on any device, in any batch, in
torch and in numpy.  So a request's text does not depend on its neighbours, a resumed run meets the same noise, and any
single number can be recomputed in a test or in another language.

The hash is written down in counter.py.  Along any one of the four numbers its words are a SplitMix64 sequence.  The
uniforms have 52 bits: taking them in float64 is what keeps rare tokens drawable (2409.02908 shows what float32 Gumbel
noise loses).
"""

from dataclasses import dataclass, replace
from typing import Any, overload

import numpy as np
import torch
from torch import Tensor

from mezzotint import counter

_DRAW = 0xD8A3


@dataclass(frozen=True, slots=True)
class Rng:
    """Noise for a batch of rows at one step."""

    seed: int | Tensor
    """One number for the batch (rows then differ by their index), or Long[B], one number per row."""
    step: int | Tensor = 0
    """The step of decoding or training: an int or Long[B]."""

    def at(self, step: int | Tensor) -> "Rng":
        """The noise of another step: a scalar, or Long[B], one per row."""
        return replace(self, step=step)

    def fork(self, name: int) -> "Rng":
        """An independent source; the same `name` always gives the same one."""
        if isinstance(self.seed, Tensor):
            return replace(
                self, seed=_mix_torch(self.seed * _signed(counter.GOLDEN) + _signed(counter.mix(name ^ counter.SECOND)))
            )
        return replace(self, seed=counter.mix(self.seed * counter.GOLDEN + counter.mix(name ^ counter.SECOND)))

    def uniform(self, shape: tuple[int, ...], device: torch.device | str | None = None) -> Tensor:
        """Float64[B], [B, L] or [B, L, V], as `shape` says, in (0, 1); row, column and token are the indices."""
        rows, *rest = shape
        seed = self.seed
        if not isinstance(seed, Tensor):
            seed = _mix_torch(
                torch.arange(rows, device=device) * _signed(counter.GOLDEN) + _signed(seed & counter.WORD)
            )
        step = self.step if isinstance(self.step, Tensor) else torch.tensor(self.step, device=device)
        seed, step = seed.to(device), step.to(device)
        axes = [torch.arange(size, device=device) for size in rest]
        if len(axes) == 2:
            row = (-1, 1, 1)
            return uniform(seed.reshape(row), step.reshape(row), axes[0][None, :, None], axes[1][None, None])
        column = axes[0] if axes else torch.zeros(1, dtype=torch.long, device=device)
        return uniform(seed[:, None], step.reshape(-1, 1), column[None]).reshape(shape)

    def gumbel(self, shape: tuple[int, ...], device: torch.device | str | None = None) -> Tensor:
        """Standard Gumbel noise, Float64[B], [B, L] or [B, L, V] as `shape` says, one independent number per entry."""
        return -(-self.uniform(shape, device).log()).log()


def draw(p: Tensor, rng: Rng) -> Tensor:
    """Long[B, L], one token per column of Float[B, L, V], which need not sum to one.

    The distribution function is inverted in float64: one number per column, where a race of exponentials takes V.
    """
    share = rng.fork(_DRAW).uniform(tuple(p.shape[:-1]), p.device)
    # where nothing has a chance the search ends behind the last token
    return passed(p.double().clamp_min(0).cumsum(-1), share).clamp_max(p.shape[-1] - 1)


def passed(running: Tensor, share: Tensor) -> Tensor:
    """Long[...], where the running sums Float[..., V] pass a share Float64[...] in (0, 1) of the last of them."""
    total = running[..., -1]
    # rounding may lift the mark to the total, behind which there is no token
    mark = torch.minimum((share * total).to(total.dtype), torch.nextafter(total, torch.zeros_like(total)))
    return torch.searchsorted(running, mark[..., None], right=True)[..., 0]


@overload
def uniform(seed: Tensor, step: Tensor | int, column: Tensor | int, token: Tensor | int = 0) -> Tensor: ...
@overload
def uniform(
    seed: np.ndarray | int, step: np.ndarray | int, column: np.ndarray | int, token: np.ndarray | int = 0
) -> np.ndarray: ...
def uniform(seed: Any, step: Any, column: Any, token: Any = 0) -> Any:  # pyright: ignore[reportInconsistentOverload]
    """Float64 in (0, 1) for keys that broadcast against each other.

    Torch when `seed` is a tensor, else numpy; equal keys give equal bits in both.
    """
    if isinstance(seed, Tensor):
        word = _mix_torch(seed + _signed(counter.GOLDEN))
        for key in (step, column, token):
            word = _mix_torch(word + key * _signed(counter.GOLDEN))
        return (_shift(word, 12).double() + 0.5) * 2.0**-52
    return counter.uniform(seed, step, column, token)


def row_seeds(seed: int, rows: int) -> list[int]:
    """The seeds that `Rng(seed)` gives to rows 0, 1, ..., as unsigned 64-bit numbers."""
    return [counter.mix(row * counter.GOLDEN + seed) for row in range(rows)]


def _mix_torch(z: Tensor) -> Tensor:
    z = (z ^ _shift(z, 30)) * _signed(counter.FIRST)
    z = (z ^ _shift(z, 27)) * _signed(counter.SECOND)
    return z ^ _shift(z, 31)


def _shift(z: Tensor, count: int) -> Tensor:
    # torch shifts signed words arithmetically; the mask makes it the logical shift that the hash is written in
    return (z >> count) & ((1 << (64 - count)) - 1)


def _signed(word: int) -> int:
    word &= counter.WORD
    return word - (1 << 64) if word >> 63 else word
