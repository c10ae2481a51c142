"""Who sees whom: functions over indices, in the signature of torch's flex attention.

One definition serves every attention kernel, in training and in inference; tests compare the two uses.
"""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

Mask = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
"""(row, head, query, key) index tensors that broadcast -> Bool, true where the query may see the key."""


def causal(row: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
    """Each column sees itself and the columns before it; indices that broadcast -> Bool."""
    return query >= key


def causal_behind(before: int) -> Mask:
    """Each column sees itself, those before it, and `before` columns read earlier."""

    def mask(row: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return query + before >= key

    return mask


@dataclass(frozen=True, slots=True)
class BlocksBefore:
    """`block_causal`, as a record; called with indices that broadcast."""

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
    return BlocksBefore(block, before)


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


def causal_noisy_then_clean(block: int, order: Tensor) -> Mask:
    """The training mask over [x_t, x_0] of causal networks; `order` is Long[B, L], as `Order` makes it.

    Noisy sees noisy of the same block up to itself in that order, and clean of earlier blocks; clean sees clean up to
    itself (WeDLM, 2512.22737; I-DLM, 2604.11035).
    """
    columns = order.shape[1]

    def mask(row: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        query_clean, key_clean = query >= columns, key >= columns
        query_block, key_block = (query % columns) // block, (key % columns) // block
        before = order[row, key % columns] <= order[row, query % columns]
        own = ~query_clean & ~key_clean & (query_block == key_block) & before
        past = ~query_clean & key_clean & (query_block > key_block)
        return own | past | (query_clean & key_clean & (query >= key))

    return mask


def prefix_full(prefix: int) -> Mask:
    """Columns before `prefix` see only columns before it; the others see everything."""

    def mask(row: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return (query >= prefix) | (key < prefix)

    return mask
