"""Block after block at fixed places, for networks that were trained on blocks (BD3LM, 2503.09573, Alg. 2).

`plan.Blocks` starts its windows at each row's first open column; here every window starts at a multiple of the block,
as it did in training, and holds the given columns that lie in it.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from mezzotint.decode.canvas import Canvas, Span, Step
from mezzotint.decode.plan import Steps
from mezzotint.decode.propose import NoiseSource
from mezzotint.errors import CanvasError

_HIT = 4


@dataclass(frozen=True)
class TimedBlocks:
    """Each block in `steps` equal steps of time from 1 to 0.

    Raises:
        CanvasError: a canvas that is not a whole number of blocks.
    """

    size: int
    steps: int

    def __call__(self, canvas: Canvas) -> Steps:
        for window, opened in _windows(canvas, self.size):
            for k in range(self.steps):
                t, s = (torch.full((len(opened), 1), 1 - i / self.steps, device=opened.device) for i in (k, k + 1))
                after = yield Step(window, opened, k, t, s)
                if after is not None and not bool(after.open.gather(-1, window.columns()).any()):
                    break


@dataclass(frozen=True)
class FirstHitting:
    """One column per step, at the time at which the next of n masks is revealed: t u^(1/n) (2409.02908, sec. 4.1).

    It has the distribution of infinitely many small steps and takes as many as there are columns.  Needs a rule that
    reveals one column: `families.bd3lm.hitting`.
    """

    size: int
    noise: Callable[[Canvas], NoiseSource] = lambda canvas: canvas.rng.fork(_HIT)
    """Where the times of a canvas come from: Float[B, columns] in (0, 1)."""

    def __call__(self, canvas: Canvas) -> Steps:
        times, taken = self.noise(canvas).uniform(tuple(canvas.open.shape), canvas.open.device), 0
        for window, opened in _windows(canvas, self.size):
            t = torch.ones(len(opened), 1, dtype=torch.float64, device=opened.device)
            for k in range(int(opened.amax())):
                left = (opened - k).clamp_min(1)[:, None]
                t = t * times[:, taken, None] ** (1 / left)
                yield Step(window, torch.ones_like(opened), k, t, t)
                taken += 1


def _windows(canvas: Canvas, size: int) -> Iterator[tuple[Span, Tensor]]:
    """The blocks in which some row has something open, and how many columns Long[B]."""
    rows, width = canvas.open.shape
    if size < 1 or width % size:
        raise CanvasError(f"cannot write {width} columns in blocks of {size}: use a whole number of blocks")
    for start in range(0, width, size):
        opened = canvas.open[:, start : start + size].sum(-1)
        if int(opened.amax()):
            yield Span(torch.full((rows,), start, device=canvas.open.device), size), opened
