"""Keys and values of columns already read."""

import torch
from torch import Tensor

from mezzotint.errors import CapacityError


class KVCache:
    """Preallocated keys and values; the first `length` columns are filled.

    A pass appends its columns.  Drafts that turn out wrong are taken back with `truncate`; of a tree of drafts, `keep`
    retains the branch that was right.
    """

    def __init__(self, shape: tuple[int, int, int, int, int], *, dtype: torch.dtype, device: torch.device) -> None:
        """shape: layers, batch, heads of keys and values, capacity in columns, width of a head."""
        self.keys = torch.zeros(shape, dtype=dtype, device=device)
        self.values = torch.zeros(shape, dtype=dtype, device=device)
        self.length = 0

    @property
    def capacity(self) -> int:
        """Columns it can hold."""
        return self.keys.shape[3]

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

    def keep(self, start: int, columns: Tensor) -> None:
        """Of the columns from `start` on, keep those in Long[K] `columns` (absolute, ascending), moved together."""
        end = start + columns.numel()
        self.keys[:, :, :, start:end] = self.keys[:, :, :, columns]
        self.values[:, :, :, start:end] = self.values[:, :, :, columns]
        self.length = end


class LayeredCache:
    """A store like `KVCache` for networks whose layers differ in heads and their width."""

    def __init__(self, shapes: list[tuple[int, int, int, int]], like: Tensor) -> None:
        """shapes: batch, heads of keys and values, capacity in columns, width of a head, per layer."""
        self.keys = [like.new_zeros(shape) for shape in shapes]
        self.values = [like.new_zeros(shape) for shape in shapes]
        self.length = 0

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
