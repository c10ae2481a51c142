"""How noisy columns are laid out before the network, and who may look at whom.

A layout turns (x_t, clean tokens) into `Inputs` of N columns and takes the L answers back out.  Who sees whom is a mask
function over indices, in the signature of torch's flex attention, so one definition serves every attention kernel,
in training and in inference; tests compare the two uses.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from mezzotint.errors import CanvasError

Mask = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
"""(row, head, query, key) index tensors that broadcast -> Bool, true where the query may see the key."""


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

    def dense(self, device: torch.device | str | None = None) -> Tensor | None:
        """Bool[1 or B, 1, queries, keys] for masked attention; None when everything is visible."""
        seen = self.valid[:, None, None, :].to(device) if self.valid is not None else None
        if self.mask is None or (isinstance(self.mask, _BlockCausal) and self.mask.hides_nothing(self.keys)):
            return seen
        zero = torch.zeros((), dtype=torch.long, device=device)
        query = torch.arange(self.queries, device=device)[None, None, :, None]
        key = torch.arange(self.keys, device=device)[None, None, None, :]
        allowed = self.mask(zero, zero, query, key)
        return allowed if seen is None else allowed & seen


class Memory(Protocol):
    """What a network keeps of the columns it has read: `mezzotint.denoisers.kv.KVCache`."""

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
        """Inputs of N columns from noisy and clean columns, both with L."""
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
        """Inputs of 2L columns; positions run 0 to L - 1 twice.

        Raises:
            CanvasError: L is not a whole number of blocks.
        """
        columns = x_t.shape[1]
        if columns % self.block:
            below = columns - columns % self.block
            raise CanvasError(
                f"cannot cut {columns} columns into blocks of {self.block}: use {below} or {below + self.block} columns"
            )
        positions = torch.arange(columns, device=x_t.device).repeat(2)
        attend = Attend(2 * columns, 2 * columns, noisy_then_clean(self.block, columns), twin=self.block)
        return Inputs(torch.cat([x_t, x_0], 1), positions, attend)

    def extract(self, raw: Tensor) -> Tensor:
        return raw[:, : raw.shape[1] // 2]


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


def causal(row: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
    """Each column sees itself and the columns before it."""
    return query >= key


def causal_behind(before: int) -> Mask:
    """Each column sees itself, those before it, and `before` columns read earlier."""

    def mask(row: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return query + before >= key

    return mask


@dataclass(frozen=True, slots=True)
class _BlockCausal:
    block: int
    before: int

    def __call__(self, row: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return (query + self.before) // self.block >= key // self.block

    def hides_nothing(self, keys: int) -> bool:
        """Whether the first query sees the last key, and so every query every key."""
        return self.before // self.block >= (keys - 1) // self.block


def block_causal(block: int, before: int = 0) -> Mask:
    """Each column sees its own block of `block` columns and the blocks before it.

    The first query stands behind `before` keys that were read earlier, a whole number of blocks.
    """
    return _BlockCausal(block, before)


def noisy_then_clean(block: int, columns: int) -> Mask:
    """The training mask over [x_t, x_0] of `columns` columns each (BD3LM, 2503.09573, sec. 3.1).

    Noisy sees noisy of the same block, and clean of earlier blocks; clean sees clean of its own and earlier blocks.
    """

    def mask(row: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        query_clean, key_clean = query >= columns, key >= columns
        query_block, key_block = (query % columns) // block, (key % columns) // block
        own = ~query_clean & ~key_clean & (query_block == key_block)
        past = ~query_clean & key_clean & (query_block > key_block)
        return own | past | (query_clean & key_clean & (query_block >= key_block))

    return mask


def prefix_full(prefix: int) -> Mask:
    """Columns before `prefix` see only columns before it; the others see everything."""

    def mask(row: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return (query >= prefix) | (key < prefix)

    return mask
