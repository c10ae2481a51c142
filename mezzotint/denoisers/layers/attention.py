"""One entry to attention: who sees whom becomes the cheapest call that computes exactly that.

A mixer maps (q, k, v), Float[B, heads, N, d], to Float[B, heads, N, d].  It is made once per pass, so masks are built
once for all layers.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from mezzotint.layouts import Attend
from mezzotint.masks import causal

Mixer = Callable[[Tensor, Tensor, Tensor], Tensor]

_GROUP = 64  # columns whose attention is worth a call of its own


def mixer(attend: Attend, device: torch.device) -> Mixer:
    """The attention that `attend` describes."""
    if attend.twin is not None and attend.valid is None:
        return _twin(attend, attend.twin, device)
    if attend.mask is causal and attend.valid is None and attend.queries == attend.keys:
        return _causal
    return _Dense(attend.dense(device))


@dataclass(frozen=True)
class _Dense:
    seen: Tensor | None

    def __call__(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(q, k, v, attn_mask=self.seen)


def _causal(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(q, k, v, is_causal=True)


@dataclass(frozen=True)
class _Group:
    """Some blocks of one half."""

    own: slice
    """Its columns, within a half."""
    past: int
    """How many clean columns some column of it sees."""
    seen: Tensor | None
    """Which of its keys each query sees; None for all."""


@dataclass(frozen=True)
class _Twin:
    """Attention over a noisy and a clean half, group by group of blocks.

    Of the 4 L^2 pairs of columns about L^2 are visible; each group reads only the keys that some column of it sees.
    Queries may be both halves or, where clean answers are not needed, the noisy half alone.
    """

    noisy: tuple[_Group, ...]
    clean: tuple[_Group, ...]

    def __call__(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        own, past = zip(k.chunk(2, 2), v.chunk(2, 2), strict=True)
        queries, *others = q.chunk(q.shape[2] // own[0].shape[2], 2)
        mixed = [self._noisy(group, queries, own, past) for group in self.noisy]
        mixed += [_attended(group, x, *past) for x in others for group in self.clean]
        return torch.cat(mixed, 2)

    def _noisy(self, group: _Group, q: Tensor, own: tuple[Tensor, ...], past: tuple[Tensor, ...]) -> Tensor:
        k, v = (
            torch.cat([before[:, :, : group.past], here[:, :, group.own]], 2)
            for before, here in zip(past, own, strict=True)
        )
        return F.scaled_dot_product_attention(q[:, :, group.own], k, v, attn_mask=group.seen)


def _attended(group: _Group, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    k, v = k[:, :, : group.past], v[:, :, : group.past]
    return F.scaled_dot_product_attention(q[:, :, group.own], k, v, attn_mask=group.seen)


def _twin(attend: Attend, block: int, device: torch.device) -> _Twin:
    columns = attend.queries // 2
    size = block * max(1, _GROUP // block)
    noisy, clean = [], []
    for start in range(0, columns, size):
        end = min(start + size, columns)
        here, past = torch.arange(start, end), torch.arange(columns, columns + end)
        keys = torch.cat([past[: end - block], here])
        noisy.append(_Group(slice(start, end), end - block, _seen(attend, here, keys, device)))
        clean.append(_Group(slice(start, end), end, _seen(attend, columns + here, past, device)))
    return _Twin(tuple(noisy), tuple(clean))


def _seen(attend: Attend, query: Tensor, key: Tensor, device: torch.device) -> Tensor | None:
    """Bool[1, 1, n, m]: the part of the mask; None where all of it is visible."""
    assert attend.mask is not None
    zero = torch.zeros((), dtype=torch.long)
    seen = attend.mask(zero, zero, query[None, None, :, None], key[None, None, None, :])
    return None if bool(seen.all()) else seen.to(device)
