"""Who sees whom in published networks: (columns read before) -> mask over indices, as `layouts.Mask` has them.

A pattern is a value that travels with a checkpoint; networks take the mask it makes as an argument.
"""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from mezzotint.denoisers.networks.llama import EVERYTHING
from mezzotint.layouts import Attend
from mezzotint.masks import Mask, block_causal, causal_behind
from mezzotint.rng import Rng


class Pattern(Protocol):
    """Who sees whom among columns in order."""

    def __call__(self, before: int) -> Mask | None:
        """The mask of queries that stand behind `before` keys read earlier; None lets every query see every key."""
        ...


@dataclass(frozen=True)
class FullPattern:
    """Every column sees every column."""

    def __call__(self, before: int) -> Mask | None:
        return None

    def __str__(self) -> str:
        return "full"


@dataclass(frozen=True)
class CausalPattern:
    """Every column sees itself and the columns read before it."""

    def __call__(self, before: int) -> Mask | None:
        return causal_behind(before)

    def __str__(self) -> str:
        return "causal"


@dataclass(frozen=True)
class BlockCausalPattern:
    """Every column sees its own block and the blocks before it, counted from the first column of the text."""

    block: int

    def __call__(self, before: int) -> Mask | None:
        return block_causal(self.block, before)

    def __str__(self) -> str:
        return f"block-causal, {self.block} columns"


@dataclass(frozen=True)
class AnnealedPattern:
    """Causal, and some pairs more: on the way from causal to full attention (DiffuLLaMA, 2410.17891, sec. 3.2)."""

    extra: Tensor
    """Bool[L, L]: pairs (query, key) that are seen anyway."""

    @classmethod
    def drawn(cls, columns: int, share: float, rng: Rng) -> "AnnealedPattern":
        """A fresh pattern over `columns` columns: 0 of `share` is causal, 1 is full."""
        return cls(rng.uniform((columns, columns)) < share)

    def __call__(self, before: int) -> Mask | None:
        def mask(row: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
            return (query + before >= key) | self.extra.to(query.device)[query + before, key]

        return mask

    def __str__(self) -> str:
        return "causal and some pairs more"


def dense(pattern: Pattern, queries: int, before: int, device: torch.device) -> Tensor:
    """Bool[1, 1, queries, before + queries] for `Decoder`; `EVERYTHING` where all is seen."""
    seen = Attend(queries, before + queries, pattern(before)).dense(device)
    return EVERYTHING if seen is None else seen
