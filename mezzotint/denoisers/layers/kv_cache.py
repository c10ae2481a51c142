"""Keys and values of columns already read."""

from typing import Generic, TypeVar

import torch
from torch import Tensor

from mezzotint.errors import CapacityError

Cells = TypeVar("Cells", Tensor, list[Tensor])
"""All layers in one tensor, or a tensor each."""


class _Store(Generic[Cells]):
    """Preallocated keys and values, layer by layer; the first `length` columns are filled.

    A pass appends its columns.  Drafts that turn out wrong are taken back with `truncate`.
    """

    keys: Cells
    values: Cells
    length: int

    @property
    def capacity(self) -> int:
        """Columns it can hold."""
        return self.keys[0].shape[2]

    def layer(self, depth: int, count: int = 0) -> tuple[Tensor, Tensor, int]:
        """Keys and values of a layer, Float[B, heads, capacity, dim], and the filled length, `count` more fitting.

        Raises:
            CapacityError: there is no room.
        """
        if self.length + count > self.capacity:
            raise CapacityError(
                f"cannot read {count} more tokens after {self.length}: the cache holds {self.capacity}, make it larger"
            )
        return self.keys[depth], self.values[depth], self.length

    def truncate(self, length: int) -> None:
        """Forget the columns from `length` on."""
        if not 0 <= length <= self.length:
            raise ValueError(f"cannot keep {length} of {self.length} columns")
        self.length = length

    def gather(self, columns: Tensor) -> None:
        """Keep the columns Long[B, n] of each row, in this order."""
        count = columns.shape[1]
        for cells in (*self.keys, *self.values):
            at = columns[:, None, :, None].expand(-1, cells.shape[1], -1, cells.shape[3])
            cells[:, :, :count] = cells.gather(2, at)
        self.length = count


class KVCache(_Store[Tensor]):
    """The store of a network whose layers are alike; of a tree of drafts, `keep` retains the branch that was right."""

    def __init__(self, shape: tuple[int, int, int, int, int], *, dtype: torch.dtype, device: torch.device) -> None:
        """shape: layers, batch, heads of keys and values, capacity in columns, width of a head."""
        self.keys = torch.zeros(shape, dtype=dtype, device=device)
        self.values = torch.zeros(shape, dtype=dtype, device=device)
        self.length = 0

    def keep(self, start: int, columns: Tensor) -> None:
        """Of the columns from `start` on, keep those in Long[K] `columns` (absolute, ascending), moved together."""
        end = start + columns.numel()
        self.keys[:, :, :, start:end] = self.keys[:, :, :, columns]
        self.values[:, :, :, start:end] = self.values[:, :, :, columns]
        self.length = end


class LayeredCache(_Store[list[Tensor]]):
    """The store of a network whose layers differ in heads and their width."""

    def __init__(self, shapes: list[tuple[int, int, int, int]], like: Tensor) -> None:
        """shapes: batch, heads of keys and values, capacity in columns, width of a head, per layer."""
        self.keys = [like.new_zeros(shape) for shape in shapes]
        self.values = [like.new_zeros(shape) for shape in shapes]
        self.length = 0


def appended(room: tuple[Tensor, Tensor, int], k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """Write keys and values Float[B, heads, n, d] behind the filled columns of a layer, and return all of them."""
    keys, values, start = room
    end = start + k.shape[2]
    keys[:, :, start:end], values[:, :, start:end] = k, v
    return keys[:, :, :end], values[:, :, :end]


def fitting(columns: int, most: int) -> int:
    """The columns of a store.

    Raises:
        CapacityError: more than the network has positions.
    """
    if columns > most:
        raise CapacityError(f"cannot hold {columns} tokens: this model reads at most {most}, shorten the text")
    return columns
