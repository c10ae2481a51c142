"""A text being written by any method: begun once, stepped until it is finished, and its result at any time."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from mezzotint.decode.canvas import Canvas
from mezzotint.decode.stopping import written


@dataclass(frozen=True)
class Written:
    """What came of it."""

    texts: list[list[int]]
    """The answers: up to the first end token, which is left out."""
    canvas: Canvas
    """Prompts, answers and what stands behind them; rows are padded on the left."""
    valid: Tensor | None
    """Bool[B, L]: columns that are not padding; None is all."""
    reads: list[int]
    """Columns per row that each pass of the network read."""

    @property
    def passes(self) -> int:
        """Passes of the network."""
        return len(self.reads)


@dataclass(frozen=True, slots=True)
class Row:
    """One text as it stands, its columns from left to right, padding left out."""

    tokens: list[int]
    undecided: list[bool]
    """Columns whose token may be noise."""
    scores: list[float]
    """Confidence when written; 0 where undecided."""


class Generation(ABC):
    """One batch of texts under way; `step` is one denoising step of all of them.

    Iterating gives the canvas after each step.  Gradients are off inside a step and as the caller has them outside, so
    several generations may take turns.
    """

    canvas: Canvas
    valid: Any
    """Bool[B, L]: columns that are not padding; None is all."""
    length: int
    """Columns behind the prompts."""
    stop: tuple[int, ...]
    """Ids at which texts end."""
    reads: list[int]
    """Columns per row that each pass of the network read."""
    final: int | None = None
    """For methods that change decided columns: those of the canvas before this one stay as they are.  None: a decided
    column with nothing undecided before it stays."""

    @abstractmethod
    def steps(self) -> Iterator[Canvas]:
        """The canvas after each step; called once."""

    def step(self) -> bool:
        """Write on by one step; False once the texts are finished."""
        with torch.inference_mode():
            return next(self._under_way, None) is not None

    def __iter__(self) -> Iterator[Canvas]:
        while self.step():
            yield self.canvas

    def result(self) -> Written:
        """What is written by now."""
        return Written(written(self.canvas, self.length, self.stop), self.canvas, self.valid, self.reads)

    def row(self, index: int = 0) -> Row:
        """One of the texts as it stands."""
        canvas = self.canvas
        parts = [x[index] for x in (canvas.tokens, canvas.open, canvas.score)]
        if self.valid is not None:
            parts = [x[self.valid[index]] for x in parts]
        tokens, undecided, scores = (x.tolist() for x in parts)
        return Row(tokens, undecided, [0.0 if u else s for u, s in zip(undecided, scores, strict=True)])

    @cached_property
    def _under_way(self) -> Iterator[Canvas]:
        return self.steps()
