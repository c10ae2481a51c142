"""Insert and delete tokens on a canvas of fixed width: families whose texts change their length while they are written.

A blank id stands for "nothing here".  The first column of a canvas is an anchor, always blank and never text: what is
inserted right of it is the start of the text.  Runs of columns that are not fixed are holes; a hole holds its tokens
packed to its left, blanks behind them, and takes no more than its width.  So the whole text, a continuation and a gap
between two fixed parts are one case, and shapes never change.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor

from mezzotint.decode.canvas import Canvas, Span, Step, infill
from mezzotint.decode.plan import Steps
from mezzotint.errors import CanvasError


@dataclass(frozen=True)
class Room:
    """Where the holes of a canvas are, and what is in them."""

    fixed: Tensor
    """Bool[B, W]: given columns; the anchor counts as given."""
    present: Tensor
    """Bool[B, W]: columns that hold a token, and the anchor."""
    start: Tensor
    """Long[B, W]: the first column of the hole that a column is in, or that begins right of it if it is fixed."""
    end: Tensor
    """Long[B, W]: one past the last column of that hole."""

    @property
    def editable(self) -> Tensor:
        """Bool[B, W]: columns whose token may be replaced or deleted."""
        return self.present & ~self.fixed

    @property
    def gaps(self) -> Tensor:
        """Bool[B, W]: columns that may get tokens inserted to their right."""
        return self.present & (self.end > self.start)


def room(tokens: Tensor, fixed: Tensor, blank: int) -> Room:
    """The holes of Long[B, W] tokens; a hole may be empty, its start then equals its end."""
    width = tokens.shape[1]
    columns = torch.arange(width, device=tokens.device)
    fixed = fixed | (columns == 0)
    present = (tokens != blank) | (columns == 0)
    start = torch.where(fixed, columns + 1, 0).cummax(-1).values
    after = torch.where(fixed, columns, width).flip(-1).cummin(-1).values.flip(-1)
    return Room(fixed, present, start, F.pad(after[:, 1:], (0, 1), value=width))


def splice(held: Room, tokens: Tensor, keep: Tensor, inserts: Tensor, blank: int) -> tuple[Tensor, Tensor, Tensor]:
    """The columns after deletions and insertions, holes packed to their left.

    Insertions that a hole has no room for are left out, the rightmost first.

    Args:
        held: the canvas as it was.
        tokens: Long[B, W], what the columns hold now, replacements made.
        keep: Bool[B, W], columns whose token stays; fixed ones stay anyway.
        inserts: Long[B, W], how many tokens to insert right of each column.
        blank: the id of nothing.

    Returns:
        The new columns Long[B, W] with blanks where tokens are inserted; Long[B, W] the column where each column's
        first inserted token goes; Long[B, W] how many of them there is room for.
    """
    stays = keep & held.editable
    inserts = inserts * held.gaps
    # running totals are exclusive; a hole's totals start at its first gap, which is right of the fixed column before it
    kept, new = (_before(x.long()) for x in (stays, inserts))
    opens = (held.start - 1).clamp_min(0)
    shuts = (held.end - 1).clamp_min(0)
    kept_here = kept - kept.gather(-1, opens)
    new_here = new - new.gather(-1, opens)
    total = (kept + stays).gather(-1, shuts) - kept.gather(-1, opens)
    free = (held.end - held.start - total).clamp_min(0)
    counts = torch.minimum(inserts, (free - new_here).clamp_min(0))
    placed = torch.minimum(new_here, free)
    place = torch.where(
        held.fixed, torch.arange(tokens.shape[1], device=tokens.device), held.start + kept_here + placed
    )
    first = held.start + kept_here + stays + placed

    width = tokens.shape[1]
    out = torch.full_like(F.pad(tokens, (0, 1)), blank)
    out = out.scatter(-1, torch.where(stays | held.fixed, place, width), tokens)
    return out[:, :-1], first.clamp_max(width - 1), counts


def fill(tokens: Tensor, first: Tensor, counts: Tensor, inserted: Tensor) -> Tensor:
    """Tokens Long[B, N] with the first inserted token of each column put in its place; for at most one per column.

    `first`, `counts` and `inserted` are Long[B, N]: where a column's insertion stands, how many, and which token.
    """
    width = tokens.shape[1]
    wider = F.pad(tokens, (0, 1))
    return wider.scatter(-1, torch.where(counts > 0, first, width), inserted)[:, :-1]


def flood(tokens: Tensor, first: Tensor, counts: Tensor, token: int) -> Tensor:
    """Tokens Long[B, N] with the same token in all places of all insertions; `first` and `counts` as for `fill`."""
    steps = torch.zeros_like(F.pad(tokens, (0, 1)))
    some = (counts > 0).long()
    steps = steps.scatter_add(-1, first, some).scatter_add(-1, first + counts, -some)
    return tokens.masked_fill(steps[:, :-1].cumsum(-1) > 0, token)


def rewritten(canvas: Canvas, step: Step, tokens: Tensor) -> Canvas:
    """The canvas after a step that wrote all its columns, Long[B, L]; holes close when the step reaches the clean end.

    Raises:
        CanvasError: the step looked at a window only.
    """
    width = canvas.tokens.shape[1]
    if step.window.size != width:
        raise CanvasError(
            f"cannot insert tokens within a window of {step.window.size} of {width} columns: plan with Whole(steps)"
        )
    born = torch.where(tokens != canvas.tokens, canvas.step[:, None], canvas.born)
    working = canvas.open.any(-1).to(canvas.step.dtype)
    return replace(canvas, tokens=tokens, open=canvas.open & (step.s > 0), born=born, step=canvas.step + working)


@dataclass(frozen=True)
class Whole:
    """A plan over all columns at once, the fixed ones and the anchor included: even steps from 1 to `least`, then to 0.

    What is still missing at the start of the last step cannot be inserted and revealed in it, so that step is short;
    networks are not trained nearer to the clean end either.
    """

    steps: int
    least: float = 1e-3

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise CanvasError(f"cannot write a text in {self.steps} steps: ask for at least 1")

    def __call__(self, canvas: Canvas) -> Steps:
        rows, width = canvas.tokens.shape
        zero = torch.zeros(rows, dtype=torch.long, device=canvas.tokens.device)
        even = max(self.steps - 1, 1)
        times = [1 - (1 - self.least) * k / even for k in range(self.steps)] + [0.0]
        for k, (t, s) in enumerate(pairwise(times)):
            yield Step(Span(zero, width), zero, k, *(torch.full((rows, 1), at, device=zero.device) for at in (t, s)))


def anchored(rows: Sequence[Sequence[int | None]], blank: int, seeds: Sequence[int] | None = None) -> Canvas:
    """A canvas of texts with holes, an anchor in front; a run of Nones is a hole that takes as many tokens.

    Raises:
        CanvasError: no row, a row without a hole, or a number of seeds that is not the number of rows.
    """
    width = max(map(len, rows), default=0)
    wide = [[blank, *row, *[blank] * (width - len(row))] for row in rows]
    return infill(wide, lambda shape, device, rng: torch.full(shape, blank), seeds)


def text(canvas: Canvas, blank: int) -> list[list[int]]:
    """The tokens of each row, blanks left out."""
    return [[token for token in row if token != blank] for row in canvas.tokens.tolist()]


def _before(x: Tensor) -> Tensor:
    return x.cumsum(-1) - x
