"""How noisy columns are laid out before the network, and who may look at whom.

A layout turns (x_t, clean tokens) into `Inputs` of N columns and takes the L answers back out.  Who sees whom is a
function of masks.py.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from mezzotint.errors import CanvasError
from mezzotint.masks import (
    BlocksBefore,
    Mask,
    block_causal,
    causal,
    causal_noisy_then_clean,
    noisy_then_clean,
    prefix_full,
)


@dataclass(frozen=True, slots=True)
class Attend:
    """Who sees whom among `queries` x `keys` columns."""

    queries: int
    keys: int
    mask: Mask | None = None
    """None lets every query see every key."""
    valid: Tensor | None = None
    """Bool[B, keys]: columns that hold something, where rows are padded."""
    twin: int | None = None
    """Columns per block where the columns are a noisy and a clean half, `noisy_then_clean`: no clean column sees a
    noisy one, so a network may run the halves apart and leave out what only clean answers need."""
    rows: int = 1
    """Rows of the batch that `mask` tells apart; 1 where it is the same for all."""

    def dense(self, device: torch.device | str | None = None) -> Tensor | None:
        """Bool[1 or B, 1, queries, keys] for masked attention; None when everything is visible."""
        seen = self.valid[:, None, None, :].to(device) if self.valid is not None else None
        if self.mask is None or (isinstance(self.mask, BlocksBefore) and self.mask.hides_nothing(self.keys)):
            return seen
        zero = torch.zeros((), dtype=torch.long, device=device)
        row = torch.arange(self.rows, device=device)[:, None, None, None]
        query = torch.arange(self.queries, device=device)[None, None, :, None]
        key = torch.arange(self.keys, device=device)[None, None, None, :]
        allowed = self.mask(row, zero, query, key)
        return allowed if seen is None else allowed & seen

    def of(self, rows: Tensor) -> "Attend":
        """The same for some rows Long[n] of the batch."""
        whole, valid = self.mask, None if self.valid is None else self.valid[rows]
        if whole is None or self.rows == 1:
            return replace(self, valid=valid)

        def mask(row: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
            return whole(rows[row], head, query, key)

        return replace(self, mask=mask, valid=valid, rows=len(rows))


class Memory(Protocol):
    """What a network keeps of the columns it has read: `mezzotint.denoisers.layers.kv_cache.KVCache`."""

    length: int
    """Columns kept."""

    def layer(self, depth: int, count: int = 0) -> tuple[Tensor, Tensor, int]:
        """Keys and values of a layer, Float[B, heads, capacity, dim], and the length, `count` more columns fitting."""
        ...


@dataclass(slots=True)
class Inputs:
    """What a network reads in one pass."""

    x: Tensor
    """Long[B, N] tokens or Float[B, N, E] vectors."""
    positions: Tensor
    """Long[N] or Long[B, N]."""
    attend: Attend
    label: Tensor | None = None
    """Long[B], a class per row for networks that are conditioned on one; None conditions on nothing."""
    memory: Memory | None = None
    """Keys and values of columns read before; the pass adds its own columns behind them."""


class Layout(Protocol):
    """Arranges L noisy columns into N network columns and takes the answers back."""

    def arrange(self, x_t: Tensor, x_0: Tensor) -> Inputs:
        """What the network reads: N columns of Long[B, L] noisy and clean tokens (or Float[B, L, E] vectors)."""
        ...

    def extract(self, raw: Tensor) -> Tensor:
        """Float[B, L, *] from the network's Float[B, N, *]."""
        ...


@dataclass(frozen=True)
class Full:
    """Every column sees every column; N = L."""

    def arrange(self, x_t: Tensor, x_0: Tensor) -> Inputs:
        columns = x_t.shape[1]
        return Inputs(x_t, torch.arange(columns, device=x_t.device), Attend(columns, columns))

    def extract(self, raw: Tensor) -> Tensor:
        return raw


@dataclass(frozen=True)
class Shifted:
    """Column i reads `begin` and the tokens before it; N = L.  Autoregressive models look like this."""

    begin: int
    """The id that stands before a text."""

    def arrange(self, x_t: Tensor, x_0: Tensor) -> Inputs:
        columns = x_t.shape[1]
        before = torch.cat([torch.full_like(x_t[:, :1], self.begin), x_t[:, :-1]], 1)
        return Inputs(before, torch.arange(columns, device=x_t.device), Attend(columns, columns, causal))

    def extract(self, raw: Tensor) -> Tensor:
        return raw


@dataclass(frozen=True)
class Causal:
    """A column sees itself and the columns before it; N = L.  Causal networks that also read masks look like this."""

    def arrange(self, x_t: Tensor, x_0: Tensor) -> Inputs:
        columns = x_t.shape[1]
        return Inputs(x_t, torch.arange(columns, device=x_t.device), Attend(columns, columns, causal))

    def extract(self, raw: Tensor) -> Tensor:
        return raw


@dataclass(frozen=True)
class BlockCausal:
    """A column sees its own block and all blocks before it; N = L.  Sequences decoded block by block look like this."""

    block: int

    def arrange(self, x_t: Tensor, x_0: Tensor) -> Inputs:
        columns = x_t.shape[1]
        attend = Attend(columns, columns, block_causal(self.block))
        return Inputs(x_t, torch.arange(columns, device=x_t.device), attend)

    def extract(self, raw: Tensor) -> Tensor:
        return raw


@dataclass(frozen=True)
class NoisyThenClean:
    """[x_t, x_0] in one pass: each noisy block sees itself and the clean blocks before it; N = 2L.

    One pass then trains every block against a clean past (BD3LM, 2503.09573, sec. 3.1).  L must be a whole number of
    blocks.
    """

    block: int

    def arrange(self, x_t: Tensor, x_0: Tensor) -> Inputs:
        """Inputs of 2L columns from two Long[B, L]; positions run 0 to L - 1 twice.

        Raises:
            CanvasError: L is not a whole number of blocks.
        """
        columns = _whole(x_t, self.block)
        attend = Attend(2 * columns, 2 * columns, noisy_then_clean(self.block, columns), twin=self.block)
        return _halves(x_t, x_0, attend)

    def extract(self, raw: Tensor) -> Tensor:
        return raw[:, : raw.shape[1] // 2]


Order = Callable[[Tensor], Tensor]
"""Noisy columns Long[B, L] -> Long[B, L]: a column's place in the order in which its block is read."""


def as_written(x_t: Tensor) -> Tensor:
    """From left to right: Long[B, L], the index of each column."""
    return torch.arange(x_t.shape[1], device=x_t.device).expand_as(x_t)


@dataclass(frozen=True)
class DecidedFirst:
    """From left to right, but decided tokens before masked ones (WeDLM, 2512.22737): Long[B, L] -> Long[B, L]."""

    mask_id: int

    def __call__(self, x_t: Tensor) -> Tensor:
        return as_written(x_t) + x_t.shape[1] * (x_t == self.mask_id)


@dataclass(frozen=True)
class CausalNoisyThenClean:
    """[x_t, x_0] for networks that stay causal: `NoisyThenClean` where none sees one that is read after it; N = 2L.

    Noisy columns see the clean blocks before theirs and, of their own block, what `order` puts before them; the clean
    half is causal, so that it also trains the network to continue text.  Columns stay where they are: an order is a
    matter of who sees whom, and positions say where a column stands.  L must be a whole number of blocks.
    """

    block: int
    order: Order = as_written

    def arrange(self, x_t: Tensor, x_0: Tensor) -> Inputs:
        """Inputs of 2L columns from two Long[B, L]; positions run 0 to L - 1 twice.

        Raises:
            CanvasError: L is not a whole number of blocks.
        """
        columns = _whole(x_t, self.block)
        mask = causal_noisy_then_clean(self.block, self.order(x_t))
        return _halves(x_t, x_0, Attend(2 * columns, 2 * columns, mask, rows=x_t.shape[0]))

    def extract(self, raw: Tensor) -> Tensor:
        return raw[:, : raw.shape[1] // 2]


def _whole(x_t: Tensor, block: int) -> int:
    columns = x_t.shape[1]
    if columns % block:
        below = columns - columns % block
        raise CanvasError(
            f"cannot cut {columns} columns into blocks of {block}: use {below} or {below + block} columns"
        )
    return columns


def _halves(x_t: Tensor, x_0: Tensor, attend: Attend) -> Inputs:
    return Inputs(torch.cat([x_t, x_0], 1), torch.arange(x_t.shape[1], device=x_t.device).repeat(2), attend)


@dataclass(frozen=True)
class PrefixFull:
    """The first `prefix` columns see only each other, the others see everything; N = L.

    The prefix (a prompt, the features of an image) is then the same in every step and can be kept.
    """

    prefix: int

    def arrange(self, x_t: Tensor, x_0: Tensor) -> Inputs:
        columns = x_t.shape[1]
        attend = Attend(columns, columns, prefix_full(self.prefix))
        return Inputs(x_t, torch.arange(columns, device=x_t.device), attend)

    def extract(self, raw: Tensor) -> Tensor:
        return raw
