"""Alignments: two texts of different lengths as columns, so that a path between them can switch column by column.

(blank, a) stands for inserting a, (a, blank) for deleting it, (a, b) for replacing it (Edit Flows, 2506.09018, sec. 3).
An alignment maps two texts to their columns, two lists of the same length.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mezzotint.batch import Batch
from mezzotint.errors import ConfigError
from mezzotint.rng import Rng

Align = Callable[[Sequence[int], Sequence[int], int], tuple[list[int], list[int]]]
"""(noisy text, clean text, blank) -> their columns."""
Coupling = Callable[[Batch, Rng], tuple[Tensor, Tensor, Tensor]]
"""(batch, rng) -> noisy and clean columns Long[B, Z], given columns Bool[B, Z]."""

_LENGTH, _TOKENS = 1, 2


def shortest(noisy: Sequence[int], clean: Sequence[int], blank: int) -> tuple[list[int], list[int]]:
    """Fewest edits, each at a cost of one; of equal choices a replacement before a deletion before an insertion."""
    cost = [list(range(len(clean) + 1))]
    for i, a in enumerate(noisy):
        row = [i + 1]
        for j, b in enumerate(clean):
            row.append(min(cost[i][j] + (a != b), cost[i][j + 1] + 1, row[j] + 1))
        cost.append(row)
    i, j = len(noisy), len(clean)
    left: list[int] = []
    right: list[int] = []
    while i or j:
        if i and j and cost[i][j] == cost[i - 1][j - 1] + (noisy[i - 1] != clean[j - 1]):
            i, j, a, b = i - 1, j - 1, noisy[i - 1], clean[j - 1]
        elif i and cost[i][j] == cost[i - 1][j] + 1:
            i, a, b = i - 1, noisy[i - 1], blank
        else:
            j, a, b = j - 1, blank, clean[j - 1]
        left.append(a)
        right.append(b)
    return left[::-1], right[::-1]


def padded(noisy: Sequence[int], clean: Sequence[int], blank: int) -> tuple[list[int], list[int]]:
    """Column by column from the left, the shorter text filled up with blanks."""
    width = max(len(noisy), len(clean))
    return [*noisy, *[blank] * (width - len(noisy))], [*clean, *[blank] * (width - len(clean))]


def apart(noisy: Sequence[int], clean: Sequence[int], blank: int) -> tuple[list[int], list[int]]:
    """Everything is deleted and everything inserted."""
    return [*noisy, *[blank] * len(clean)], [*[blank] * len(noisy), *clean]


@dataclass(frozen=True)
class EmptySource:
    """Paths start from the empty text; every token is an insertion.

    A call gives noisy and clean columns Long[B, L], and the given ones Bool[B, L]: those outside the batch's target.
    """

    blank: int

    def __call__(self, batch: Batch, rng: Rng) -> tuple[Tensor, Tensor, Tensor]:
        noisy = torch.where(batch.target, self.blank, batch.tokens)
        return noisy, batch.tokens, ~batch.target


@dataclass(frozen=True)
class RandomSource:
    """Paths start from up to `most` random tokens, aligned to the text; given text must come first.

    A call gives noisy and clean columns Long[B, Z], and the given ones Bool[B, Z]; Z is the longest alignment.
    """

    tokens: tuple[int, ...]
    """The ids that are drawn, all equally likely."""
    most: int
    align: Align
    blank: int

    def __post_init__(self) -> None:
        if self.most < 1:
            raise ConfigError(f"cannot start from {self.most} random tokens: take at least 1, or the empty text")

    def draw(self, rows: int, rng: Rng, device: torch.device | str | None = None) -> list[list[int]]:
        """Random texts: a length from 0 to `most`, all equally likely, then tokens."""
        lengths = (rng.fork(_LENGTH).uniform((rows,), device) * (self.most + 1)).long().tolist()
        places = (rng.fork(_TOKENS).uniform((rows, self.most), device) * len(self.tokens)).long().tolist()
        return [[self.tokens[place] for place in row[:length]] for row, length in zip(places, lengths, strict=True)]

    def __call__(self, batch: Batch, rng: Rng) -> tuple[Tensor, Tensor, Tensor]:
        device = batch.tokens.device
        columns = []
        starts = self.draw(len(batch.tokens), rng, device)
        for tokens, target, start in zip(batch.tokens.tolist(), batch.target.tolist(), starts, strict=True):
            text = [token for token in tokens if token != self.blank]
            given = target.index(True) if True in target else len(text)
            noisy, clean = self.align(start, text[given:], self.blank)
            columns.append((text[:given] + noisy, text[:given] + clean, given))
        width = max(len(noisy) for noisy, _, _ in columns)
        noisy, clean = (
            torch.tensor([row[side] + [self.blank] * (width - len(row[side])) for row in columns], device=device)
            for side in (0, 1)
        )
        given = torch.tensor([count for _, _, count in columns], device=device)
        return noisy, clean, torch.arange(width, device=device) < given[:, None]
