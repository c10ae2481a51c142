"""Which window to denoise next, for how many steps, and how much of it each step should commit.

A plan maps a canvas to its steps.  The host looks at the canvas once when the plan starts; a plan that can stop early
learns of progress by `send(canvas)` and works without it, because a step on a finished window commits nothing.
"""

import math
from collections.abc import Callable, Generator
from dataclasses import dataclass

import torch
from torch import Tensor

from mezzotint.decode.canvas import Canvas, Span, Step
from mezzotint.errors import CanvasError

Steps = Generator[Step, Canvas | None, None]
Plan = Callable[[Canvas], Steps]
Budget = Callable[[Tensor, Tensor, int, int], Tensor]
"""(open columns at the window's start Long[B], open now Long[B], step k, steps in all) -> Long[B] to commit."""
Times = Callable[[int, int], float]
"""(step k, steps in all) -> the time before step k; k = steps gives the end."""
Place = Callable[[Canvas, int], list[Span]]
"""The windows of at most `size` columns in which a canvas is written, in order."""


def linear(total: Tensor, left: Tensor, k: int, steps: int) -> Tensor:
    """Equal shares, the remainder to the first steps (LLaDA, 2502.09992): sums to `total` over k < steps.

    Columns of a window and those left open, Long[B], give the step's budget, Long[B].
    """
    return (total + (steps - 1 - k)) // steps


def floored(total: Tensor, left: Tensor, k: int, steps: int) -> Tensor:
    """So many that floor(total (steps - 1 - k) / steps) stay open after step k (RND1): the remainder comes first.

    Long[B], as `linear`.
    """
    return (left - total * (steps - 1 - k) // steps).clamp_min(0)


def caught_up(total: Tensor, left: Tensor, k: int, steps: int) -> Tensor:
    """What is missing to an equal share for every step so far, rounded up: shares that were not used are carried on.

    Long[B], as `linear`.
    """
    return (-(-total * (k + 1) // steps) - (total - left)).clamp_min(0)


@dataclass(frozen=True)
class Over:
    """Equal shares of `size` columns, whatever is open in the window: SDAR's and LLaDA2's schedule."""

    size: int

    def __call__(self, total: Tensor, left: Tensor, k: int, steps: int) -> Tensor:
        """Long[B]: the share of step k."""
        return linear(torch.full_like(total, self.size), left, k, steps)


@dataclass(frozen=True)
class Leaving:
    """So many that floor(`size` c) stay open, c falling with the steps; at least one, and fewer than before.

    MaskGIT's schedule as MMaDA has it (2202.04200, sec. 3.3): `size` counts all columns of the image, given ones too.
    """

    size: int
    curve: Callable[[float], float]
    """The share of columns that is open, from the share of steps that is over."""

    def __call__(self, total: Tensor, left: Tensor, k: int, steps: int) -> Tensor:
        """Long[B]: the share of step k."""
        stay = math.floor(self.size * self.curve((k + 1) / steps))
        return (left - (left - 1).clamp(max=stay).clamp_min(1)).clamp_min(0)


def cosine(share: float) -> float:
    """cos(pi / 2 share): few columns are written early, many late."""
    return math.cos(math.pi / 2 * share)


@dataclass(frozen=True)
class Shrinking:
    """The whole part of (1 - s / t) times the columns still open, times falling from 1 to `eps` (Dream, 2508.15487).

    Early steps may commit nothing; the last one takes the rest, which is the plan's to say.
    """

    eps: float = 1e-3

    def __call__(self, total: Tensor, left: Tensor, k: int, steps: int) -> Tensor:
        """Long[B]: the share of step k, in the 32 bits that the published loop computes in."""
        times = torch.linspace(1, self.eps, steps + 1, device=left.device)
        return (left * (1 - times[k + 1] / times[k])).long()


def even(k: int, steps: int) -> float:
    """Times in equal steps from 1 to 0."""
    return 1 - k / steps


@dataclass(frozen=True)
class Down:
    """Times in equal steps from 1 to `eps`, and then to 0 at once (Dream)."""

    eps: float = 1e-3

    def __call__(self, k: int, steps: int) -> float:
        """The time before step k."""
        return 0.0 if k == steps else 1 - (1 - self.eps) * k / steps


def following(canvas: Canvas, size: int) -> list[Span]:
    """From each row's first open column to its last, the last window shorter."""
    width = canvas.open.shape[1]
    columns = torch.arange(width, device=canvas.open.device)
    first = torch.where(canvas.open, columns, width).amin(-1)
    last = torch.where(canvas.open, columns + 1, 0).amax(-1)
    length = int((last - first).amax())
    sizes = [min(size, length - offset) for offset in range(0, length, size)]
    # rows that are shorter look again at closed columns of their own
    return [Span((first + i * size).clamp(max=width - taken), taken) for i, taken in enumerate(sizes)]


def multiples(canvas: Canvas, size: int) -> list[Span]:
    """At the multiples of `size`, as block-causal networks were trained; given columns of a window stay as they are.

    Raises:
        CanvasError: the canvas is not a whole number of windows.
    """
    rows, width = canvas.open.shape
    if width % size:
        raise CanvasError(f"cannot write {width} columns in blocks of {size}: use a whole number of blocks")
    return [Span(torch.full((rows,), at, device=canvas.open.device), size) for at in range(0, width, size)]


@dataclass(frozen=True)
class Blocks:
    """Windows of `size` columns, left to right; those in which nothing is open are skipped.

    `Blocks(size=canvas width)` is one window over everything.  The budget of a window's last step is all that is still
    open, so `surest` and `OnTime` finish even after revisions.

    Raises:
        CanvasError: a size or a number of steps below one, when the plan is made.
    """

    size: int
    steps: int | None = None
    """Steps per window at most; None: as many as columns, so that one column per step always suffices."""
    budget: Budget = linear
    lag: int = 0
    """Look at "is the window done?" this many steps late; 1 keeps an accelerator from waiting for the host."""
    place: Place = following
    times: Times = even
    share: bool = False
    """`steps` are those of all windows together, shared out evenly, at least one for each."""
    patient: bool = False
    """Go on after the last step while something is open, at most a step per column."""
    lazy: bool = False
    """Leave out steps with a budget of zero; only for selectors that then commit nothing, as `due`."""

    def __post_init__(self) -> None:
        if self.size < 1:
            raise CanvasError(f"cannot write in blocks of {self.size} tokens: ask for at least 1")
        if self.steps is not None and self.steps < 1:
            raise CanvasError(f"cannot write a block in {self.steps} steps: ask for at least 1")

    def __call__(self, canvas: Canvas) -> Steps:
        spans = self.place(canvas, self.size)
        totals = [canvas.open.gather(-1, span.columns()).sum(-1) for span in spans]
        used = [(s, x) for s, x, most in zip(spans, totals, [int(x.amax()) for x in totals], strict=True) if most]
        for i, (span, total) in enumerate(used):
            yield from self._window(span, total, self._steps(span, i, len(used)))

    def _steps(self, span: Span, i: int, windows: int) -> int:
        if self.steps is None:
            return span.size
        return max(1, self.steps // windows + (i < self.steps % windows)) if self.share else self.steps

    def _window(self, span: Span, total: Tensor, steps: int) -> Steps:
        past: list[Tensor] = []
        left = total
        for k in range(steps + (span.size if self.patient else 0)):
            budget = self.budget(total, left, k, steps) if k < steps - 1 else torch.full_like(total, span.size)
            live = budget > 0 if self.lazy else None
            if live is not None and not bool(live.any()):
                continue
            times = (self.times(min(i, steps), steps) for i in (k, k + 1))
            t, s = (torch.full((len(total), 1), time, device=total.device) for time in times)
            canvas = yield Step(span, budget, k, t, s, live)
            if canvas is None:
                left = (left - budget).clamp_min(0)
                continue
            left = canvas.open.gather(-1, span.columns()).sum(-1)
            past.append(left.any())
            if len(past) > self.lag and not past[-1 - self.lag]:
                return


@dataclass(frozen=True)
class Sliding:
    """In every step the `size` columns from each row's first open one on: a window that moves along (WeDLM).

    Raises:
        CanvasError: a size below one, when the plan is made.
    """

    size: int

    def __post_init__(self) -> None:
        if self.size < 1:
            raise CanvasError(f"cannot write in a window of {self.size} tokens: ask for at least 1")

    def __call__(self, canvas: Canvas) -> Steps:
        width = canvas.open.shape[1]
        size, k = min(self.size, width), 0
        columns = torch.arange(width, device=canvas.open.device)
        most = int(canvas.open.sum(-1).amax())
        while k < most and bool(canvas.open.any()):
            start = torch.where(canvas.open, columns, width).amin(-1).clamp(max=width - size)
            t, s = (torch.full((len(start), 1), even(i, most), device=start.device) for i in (k, k + 1))
            after = yield Step(Span(start, size), torch.ones_like(start), k, t, s)
            if after is None:
                raise CanvasError("a window that moves needs each step's canvas: use decode.loop.decode")
            canvas, k = after, k + 1
