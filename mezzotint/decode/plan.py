"""Which window to denoise next, for how many steps, and how much of it each step should commit.

A plan maps a canvas to its steps.  The host looks at the canvas once when the plan starts; a plan that can stop early
is told of progress with `send(canvas)` and works without it, because a step on a finished window commits nothing.
"""

from collections.abc import Callable, Generator
from dataclasses import dataclass

import torch
from torch import Tensor

from mezzotint.decode.canvas import Canvas, Span, Step
from mezzotint.errors import CanvasError

Steps = Generator[Step, Canvas | None, None]
Plan = Callable[[Canvas], Steps]
Budget = Callable[[Tensor, int, int], Tensor]
"""(open columns at the window's start Long[B], step k, steps in all) -> Long[B] to commit."""


def linear(total: Tensor, k: int, steps: int) -> Tensor:
    """Equal shares, the remainder to the first steps (LLaDA, 2502.09992): sums to `total` over k < steps."""
    return total // steps + (k < total % steps)


@dataclass(frozen=True)
class Blocks:
    """Windows of `size` columns from each row's first open column to its last, left to right, the last one shorter.

    Windows in which nothing is open are skipped; `Blocks(size=canvas width)` is one window over everything.  The budget
    of a window's last step is all that is still open, so `surest` and `OnTime` finish even after revisions.

    Raises:
        CanvasError: a size or a number of steps below one, when the plan is made.
    """

    size: int
    steps: int | None = None
    """Steps per window at most; None: as many as columns, so that one column per step always suffices."""
    budget: Budget = linear
    lag: int = 0
    """Look at "is the window done?" this many steps late; 1 keeps an accelerator from waiting for the host."""

    def __post_init__(self) -> None:
        if self.size < 1:
            raise CanvasError(f"cannot write in blocks of {self.size} tokens: ask for at least 1")
        if self.steps is not None and self.steps < 1:
            raise CanvasError(f"cannot write a block in {self.steps} steps: ask for at least 1")

    def __call__(self, canvas: Canvas) -> Steps:
        width = canvas.open.shape[1]
        columns = torch.arange(width, device=canvas.open.device)
        first = torch.where(canvas.open, columns, width).amin(-1)
        last = torch.where(canvas.open, columns + 1, 0).amax(-1)
        length = int((last - first).amax())
        sizes = [min(self.size, length - offset) for offset in range(0, length, self.size)]
        # rows that are shorter look again at closed columns of their own
        spans = [Span((first + i * self.size).clamp(max=width - size), size) for i, size in enumerate(sizes)]
        totals = [canvas.open.gather(-1, span.columns()).sum(-1) for span in spans]
        for span, total, used in zip(spans, totals, [int(x.amax()) for x in totals], strict=True):
            if used:
                yield from self._window(span, total)

    def _window(self, span: Span, total: Tensor) -> Steps:
        steps = self.steps or span.size
        left: list[Tensor] = []
        for k in range(steps):
            budget = self.budget(total, k, steps) if k < steps - 1 else torch.full_like(total, span.size)
            t, s = (torch.full((len(total), 1), 1 - i / steps, device=total.device) for i in (k, k + 1))
            canvas = yield Step(span, budget, k, t, s)
            if canvas is not None:
                left.append(canvas.open.gather(-1, span.columns()).any())
                if len(left) > self.lag and not left[-1 - self.lag]:
                    return
