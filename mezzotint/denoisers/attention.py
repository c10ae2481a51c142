"""One entry to attention: who sees whom becomes the cheapest call that computes exactly that.

A mixer maps (q, k, v), Float[B, heads, N, d], to Float[B, heads, N, d].  It is made once per pass, so masks are built
once for all layers.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from mezzotint.layouts import Attend, causal

Mixer = Callable[[Tensor, Tensor, Tensor], Tensor]

_GROUP = 32  # columns whose attention is worth a call of its own


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
    """Some blocks of one half: their queries, the clean columns and the noisy columns that they see any of."""

    queries: slice
    clean: slice
    noisy: slice
    seen: Tensor | None


@dataclass(frozen=True)
class _Twin:
    """Attention over a noisy and a clean half, group by group of blocks.

    Of the 4 L^2 pairs of columns about L^2 are visible; each group reads only the keys that some column of it sees.
    Queries may be both halves or, where clean answers are not needed, the noisy half alone.
    """

    noisy: tuple[_Group, ...]
    clean: tuple[_Group, ...]

    def __call__(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        groups = self.noisy if q.shape[2] < k.shape[2] else self.noisy + self.clean
        parts = [self._part(group, q, k, v) for group in groups]
        return torch.cat(parts, 2)

    def _part(self, group: _Group, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        keys, values = ((torch.cat([x[:, :, group.clean], x[:, :, group.noisy]], 2)) for x in (k, v))
        return F.scaled_dot_product_attention(q[:, :, group.queries], keys, values, attn_mask=group.seen)


def _twin(attend: Attend, block: int, device: torch.device) -> _Twin:
    columns = attend.queries // 2
    size = block * max(1, _GROUP // block)
    starts = range(0, columns, size)

    def group(start: int, offset: int) -> _Group:
        end = min(start + size, columns)
        past = end if offset else end - block
        clean = slice(columns, columns + past)
        noisy = slice(start, start if offset else end)
        queries = slice(offset + start, offset + end)
        return _Group(queries, clean, noisy, _seen(attend, queries, (clean, noisy), device))

    return _Twin(tuple(group(start, 0) for start in starts), tuple(group(start, columns) for start in starts))


def _seen(attend: Attend, queries: slice, keys: tuple[slice, slice], device: torch.device) -> Tensor | None:
    """Bool[1, 1, n, m]: the part of the mask; None where all of it is visible."""
    assert attend.mask is not None
    zero = torch.zeros((), dtype=torch.long)
    query = torch.arange(queries.start, queries.stop)[None, None, :, None]
    key = torch.cat([torch.arange(part.start, part.stop) for part in keys])[None, None, None, :]
    seen = attend.mask(zero, zero, query, key)
    return None if bool(seen.all()) else seen.to(device)
