"""The canvas: one row per request, some columns given, some written, some still noise.

B rows, L columns, W columns of a window.  Prompt, infill context and locked text are the same thing, `fixed`, and
nothing below asks which of them a column is.  Shapes never change while a canvas is decoded and the host reads nothing
inside a step, so a step can be compiled or captured once.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from mezzotint.errors import CanvasError
from mezzotint.rng import Rng

Prior = Callable[[tuple[int, int], "torch.device | str | None", Rng], Tensor]
"""(B, L), device, rng -> Long[B, L] of pure noise: the bound `prior` of a discrete process."""

GIVEN = -1
"""`born` of a column that no step has written."""


@dataclass(frozen=True)
class Span:
    """`size` columns of every row; rows may be at different places."""

    start: Tensor
    """Long[B]."""
    size: int

    def columns(self) -> Tensor:
        """Long[B, W]: the columns themselves."""
        return self._columns

    @cached_property
    def _columns(self) -> Tensor:
        # plan, cache and rule ask in every step of a window
        return self.start[:, None] + torch.arange(self.size, device=self.start.device)


@dataclass(frozen=True, slots=True)
class Places:
    """Columns that need not stand side by side; asked as a span is."""

    start: Tensor
    """Long[B]: where the window begins that they are taken from."""
    chosen: Tensor
    """Long[B, W]."""

    @property
    def size(self) -> int:
        """How many of every row."""
        return self.chosen.shape[1]

    def columns(self) -> Tensor:
        """Long[B, W]: the columns themselves."""
        return self.chosen


@dataclass(frozen=True, slots=True)
class Step:
    """What a plan asks of one denoising step."""

    window: Span | Places
    budget: Tensor
    """Long[B]: commit at least this many columns."""
    k: int
    """Steps already spent on this window."""
    t: Tensor
    s: Tensor
    """Float[B, 1]: times before and after the step, 1 = noise, 0 = clean."""
    live: Tensor | None = None
    """Bool[B]: rows that the step may change; None is all.  A row that is finished waits here for its neighbours."""


@dataclass(slots=True)
class Canvas:
    """Texts in the making."""

    tokens: Tensor
    """Long[B, L]: best text so far; undecided columns hold noise."""
    open: Tensor
    """Bool[B, L]: undecided."""
    fixed: Tensor
    """Bool[B, L]: given (prompt, infill context, locked, padding): never written."""
    score: Tensor
    """Float[B, L]: confidence when written."""
    born: Tensor
    """Int[B, L]: step when written, -1 where no step has."""
    step: Tensor
    """Int[B]: steps taken."""
    seed: Tensor
    """Long[B]: a row's own noise, so its text does not depend on its neighbours."""
    latent: Tensor | None = None
    """Float[B, L, E] for Gaussian families; `tokens` is then its rounding."""
    notes: tuple[Tensor, ...] = ()
    """What a rule carries from step to step: earlier predictions, counters.  Each rule says what its notes are."""

    @property
    def rng(self) -> Rng:
        """The noise of this step, one independent source per row."""
        return Rng(self.seed, self.step)

    def to(self, device: torch.device | str) -> "Canvas":
        """The same canvas on another device."""
        values = {name: getattr(self, name) for name in self.__slots__}
        moved = {name: value.to(device) for name, value in values.items() if isinstance(value, Tensor)}
        return replace(self, **moved, notes=tuple(note.to(device) for note in self.notes))


def write(prompts: Sequence[Sequence[int]], length: int, prior: Prior, seeds: Sequence[int] | None = None) -> Canvas:
    """A canvas that continues every prompt by `length` columns.

    Shorter prompts are padded on the right, behind their answer, so that answers start where their prompt ends.

    Raises:
        CanvasError: `length` is not positive, or there is no prompt.
    """
    if length < 1:
        raise CanvasError(f"cannot write {length} tokens: ask for at least 1")
    return infill([[*prompt, *[None] * length] for prompt in prompts], prior, seeds)


def infill(rows: Sequence[Sequence[int | None]], prior: Prior, seeds: Sequence[int] | None = None) -> Canvas:
    """A canvas with the given tokens fixed and every None open.

    Raises:
        CanvasError: no row, a row without a hole, or a number of seeds that is not the number of rows.
    """
    if not rows:
        raise CanvasError("cannot lay out a canvas without rows: give at least one text")
    for index, row in enumerate(rows):
        if all(token is not None for token in row):
            raise CanvasError(f"text {index} has no open column: leave at least one hole or ask for more tokens")
    seeds = range(len(rows)) if seeds is None else seeds
    if len(seeds) != len(rows):
        raise CanvasError(f"{len(rows)} texts came with {len(seeds)} seeds: give one seed per text")
    width = max(map(len, rows))
    tokens = torch.tensor([[0 if x is None else x for x in row] + [0] * (width - len(row)) for row in rows])
    open = torch.tensor([[x is None for x in row] + [False] * (width - len(row)) for row in rows])
    seed = torch.tensor([value & (2**63 - 1) for value in seeds])
    return _fresh(tokens, open, seed, prior)


def edit(
    texts: Sequence[Sequence[int]],
    spans: Sequence[Sequence[tuple[int, int]]],
    prior: Prior,
    seeds: Sequence[int] | None = None,
) -> Canvas:
    """A canvas that rewrites the columns of each text's [start, end) spans and keeps the rest.

    Raises:
        CanvasError: a span that is empty or reaches outside its text, or lists of different lengths.
    """
    if len(texts) != len(spans):
        raise CanvasError(f"{len(texts)} texts came with {len(spans)} lists of spans: give one list per text")
    rows: list[list[int | None]] = [list(text) for text in texts]
    for row, wanted in zip(rows, spans, strict=True):
        for start, end in wanted:
            if not 0 <= start < end <= len(row):
                raise CanvasError(f"cannot rewrite columns {start} to {end} of a text of {len(row)} tokens")
            row[start:end] = [None] * (end - start)
    return infill(rows, prior, seeds)


def resume(canvas: Canvas, more: int, prior: Prior) -> Canvas:
    """The same texts with `more` open columns behind the last column that was not given.

    Raises:
        CanvasError: `more` is not positive.
    """
    if more < 1:
        raise CanvasError(f"cannot extend a canvas by {more} tokens: ask for at least 1")
    old = canvas.tokens.shape[1]
    columns = torch.arange(old + more, device=canvas.tokens.device)
    end = torch.where(canvas.fixed, 0, columns[:old] + 1).amax(-1, keepdim=True)
    grown = (columns >= end) & (columns < end + more)

    def wider(x: Tensor, fill: float) -> Tensor:
        return F.pad(x, (0, more), value=fill)

    new = _fresh(wider(canvas.tokens, 0), wider(canvas.open, 0).bool() | grown, canvas.seed, prior)
    new.tokens = torch.where(wider(canvas.open, 0).bool(), wider(canvas.tokens, 0), new.tokens)
    new.fixed = wider(canvas.fixed, 1).bool() & ~grown
    new.score, new.born, new.step = wider(canvas.score, 0), wider(canvas.born, GIVEN), canvas.step
    return new


def rebuilt(counts: Tensor, width: int) -> Tensor:
    """Long[B, width]: which old column stands in each new one, -1 where none does.

    Args:
        counts: Long[B, L], what becomes of a column: 0 is nothing, 1 itself, n + 1 are n new ones and itself.
        width: columns that there are room for; what is behind them is cut off.
    """
    place = torch.where(counts > 0, counts.cumsum(-1) - 1, width).clamp(max=width)
    old = torch.arange(counts.shape[1], device=counts.device).expand_as(counts)
    return torch.full_like(place[:, :1], -1).expand(-1, width + 1).scatter(-1, place, old)[:, :width]


def moved(canvas: Canvas, source: Tensor, there: Tensor, mask_id: int) -> Canvas:
    """The canvas with its columns in other places.

    Args:
        canvas: as it was.
        source: Long[B, L'], the old column that stands in each new one, -1 for one that is new and open.
        there: Bool[B, L'], columns of the text; the others hold nothing, and count as given.
        mask_id: what stands in new columns.
    """
    fresh, source = there & (source < 0), source.clamp_min(0)

    def taken(x: Tensor, new: float, behind: float) -> Tensor:
        return torch.where(there, x.gather(-1, source), behind).masked_fill(fresh, new).to(x.dtype)

    return replace(
        canvas,
        tokens=taken(canvas.tokens, mask_id, mask_id),
        open=taken(canvas.open, True, False),
        fixed=taken(canvas.fixed, False, True),
        score=taken(canvas.score, 0, 0),
        born=taken(canvas.born, GIVEN, GIVEN),
    )


def _fresh(tokens: Tensor, open: Tensor, seed: Tensor, prior: Prior) -> Canvas:
    rows, width = tokens.shape
    # step -1 keeps the starting noise apart from the noise of step 0
    noise = prior((rows, width), tokens.device, Rng(seed, -1))
    return Canvas(
        tokens=torch.where(open, noise, tokens),
        open=open,
        fixed=~open,
        score=torch.zeros(rows, width, device=tokens.device),
        born=torch.full((rows, width), GIVEN, dtype=torch.int32, device=tokens.device),
        step=torch.zeros(rows, dtype=torch.int32, device=tokens.device),
        seed=seed,
    )
