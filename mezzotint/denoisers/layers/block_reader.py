"""Block decoding with exact keys and values: a finished block is read once and never again.

In a block-causal network nothing that is written later changes what an earlier block was read as, so the logits are
those of the whole canvas (BD3LM, 2503.09573, sec. 3.2).
"""

from typing import Protocol

import torch
from torch import Tensor

from mezzotint.denoisers.layers.kv_cache import KVCache
from mezzotint.layouts import Attend, Inputs
from mezzotint.masks import block_causal


class Rememberer(Protocol):
    """A network that adds what it reads to `inputs.memory`."""

    def __call__(self, inputs: Inputs, t: Tensor | None) -> Tensor:
        """Logits Float[B, N, V]."""
        ...


class BlockReader:
    """(tokens of the canvas, window) -> logits of the window, for windows at multiples of `block`, left to right."""

    def __init__(self, network: Rememberer, memory: KVCache, block: int) -> None:
        """`memory` must be empty and hold all columns but the last block's."""
        self.network, self.memory, self.block = network, memory, block
        self.passes = 0
        """Passes of the network so far, those that only read a finished block included."""

    def __call__(self, tokens: Tensor, start: int, t: Tensor | None = None) -> Tensor:
        """Float[B, block, V]: logits of the columns from `start` on, given the columns before them.

        Args:
            tokens: Long[B, L], the canvas; all before `start` is final.
            start: a multiple of the block, not smaller than in the last call.
            t: the time of the window, if the network wants it; finished blocks are read at time 0.
        """
        done = self.memory.length
        if done < start:
            self._read(tokens[:, done:start], done, None if t is None else torch.zeros_like(t))
        logits = self._read(tokens[:, start : start + self.block], start, t)
        self.memory.truncate(start)
        return logits

    def _read(self, x: Tensor, start: int, t: Tensor | None) -> Tensor:
        columns = x.shape[1]
        mask = block_causal(self.block, start) if columns > self.block else None
        positions = torch.arange(start, start + columns, device=x.device)
        self.passes += 1
        return self.network(Inputs(x, positions, Attend(columns, start + columns, mask), memory=self.memory), t)
