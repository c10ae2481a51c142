"""DAEDAL: dynamic length, the canvas grows until its end is sure, without training (2508.00819).

First the canvas grows until the network is sure that the text ends inside it.  Then blocks are written by threshold,
and while the network is not sure of an end, a column that it cannot fill becomes several.  Rows grow by themselves:
columns behind a shorter row are not valid, and are seen by nobody.  A row is left at its first confirmed end, which
changes no text.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
from pydantic import Field
from torch import Tensor

from mezzotint.config import config
from mezzotint.decode.canvas import Canvas, Span, Step, moved
from mezzotint.decode.generation import Generation
from mezzotint.decode.propose import Propose, first_largest, probable
from mezzotint.decode.reader import ClassifierFreeGuidance, Reader
from mezzotint.decode.run import MaskedModel, lay_out
from mezzotint.decode.select import rank
from mezzotint.decode.shapers import Ban, tempered
from mezzotint.decode.stopping import confirmed
from mezzotint.errors import CanvasError, ConfigError


@config
class Daedal:
    """How a canvas grows; the numbers are the authors'."""

    first: int = Field(default=64, gt=0)
    """Open columns to begin with."""
    grow: int = Field(default=8, gt=1)
    """Columns that are added at a time, and that one doubtful column becomes."""
    enough: float = Field(default=0.5, ge=0, le=1)
    """How sure of an end the network must be before anything is written."""
    surely: float = Field(default=0.9, ge=0, le=1)
    """How sure of it it must be for no column to grow while the text is written."""
    looked: int = Field(default=32, gt=0)
    """Columns, from the right, whose end tokens are counted."""
    tail: int = Field(default=16, ge=0)
    """End tokens that are put behind the first canvas."""
    block: int = Field(default=32, gt=0)
    tau: float = Field(default=0.9, ge=0)
    """Columns surer than this are written, always at least one."""
    doubt: float = Field(default=0.1, ge=0)
    """Columns below this may grow, the most doubtful one per step."""
    temperature: float = Field(default=0.0, ge=0)
    top_p: float = Field(default=1.0, gt=0, le=1)
    guidance: float = Field(default=0.0, ge=0)
    """As in `Preset`."""

    def begin(
        self, model: MaskedModel, prompts: Sequence[Sequence[int]], length: int, seeds: Sequence[int] | None = None
    ) -> "DaedalRun":
        """Answers of at most `length` tokens, as long as they need to be.

        Raises:
            ConfigError: a network that writes in blocks, whose answers may have any length anyway, or without end ids.
            CanvasError: no prompt, one with a hole, or a length that is not positive.
        """
        if model.block is not None:
            raise ConfigError("a network of blocks writes until it ends: it needs no canvas that grows")
        if not model.stop:
            raise ConfigError("cannot tell how long an answer should be: the model names no end token")
        if any(None in prompt for prompt in prompts):
            raise CanvasError("cannot grow an answer and fill holes before it: use a preset whose canvas has one width")
        return DaedalRun(self, model, prompts, length, seeds)


class DaedalRun(Generation):
    """One generation, step by step: iterating gives the canvas after each pass."""

    valid: Tensor  # pyright: ignore[reportIncompatibleVariableOverride]
    """Bool[B, L]: columns come and go, so it always says which are there."""

    def __init__(
        self,
        how: Daedal,
        model: MaskedModel,
        prompts: Sequence[Sequence[int]],
        length: int,
        seeds: Sequence[int] | None,
    ) -> None:
        self.how, self.model, self.length = how, model, length
        self.canvas, valid = lay_out(model, prompts, min(how.first, length) if length > 0 else length, seeds)
        self.valid = torch.ones_like(self.canvas.open) if valid is None else valid
        self.start = max(map(len, prompts))
        guidance = (
            ClassifierFreeGuidance(how.guidance, torch.tensor([model.mask_id], device=model.device))
            if how.guidance
            else None
        )
        self.reader = Reader(model.network, sees=model.sees, valid=self.valid, guidance=guidance)
        self.reads, self.stop = self.reader.passes, model.stop
        self.blank, self.unmasked = Ban(model.padding), Ban(model.among(model.mask_id))
        self.propose: Propose = tempered(how.temperature, how.top_p)

    def steps(self) -> Iterator[Canvas]:
        growing = True
        while growing:
            growing = self._lengthen(self._read())
            yield self.canvas
        at = torch.zeros_like(self.canvas.seed)
        while bool((live := self._unfinished()).any()):
            at = self._write(self._read(), at, live)
            yield self.canvas

    def _read(self) -> Tensor:
        """Float[B, A, V]: logits of all answer columns."""
        self.reader.valid = self.valid
        start = torch.full_like(self.canvas.seed, self.start)
        window = Span(start, self.canvas.tokens.shape[1] - self.start)
        t = torch.ones(len(start), 1, device=start.device)
        return self.blank.filtered(self.reader(self.canvas, Step(window, start, 0, t, t)))

    def _unfinished(self) -> Tensor:
        return self.canvas.open.any(-1) & ~confirmed(self.canvas, self.model.stop)

    def _lengths(self) -> Tensor:
        """Long[B]: columns of the answers."""
        return self.valid[:, self.start :].sum(-1)

    def _ending(self, raw: Tensor) -> Tensor:
        return ending(raw, self.valid[:, self.start :], self.model.stop, self.how.looked)

    def _lengthen(self, raw: Tensor) -> bool:
        """Add columns to rows that do not end yet; when none is left, put end tokens behind all."""
        lengths = self._lengths()
        room = self.length - lengths
        more = torch.where(self._ending(raw) < self.how.enough, room.clamp(max=self.how.grow), 0)
        if bool(more.any()):
            self._insert(self.start + lengths, more)
            return True
        more = room.clamp(max=self.how.tail)
        self._insert(self.start + lengths, more)
        columns = torch.arange(self.valid.shape[1], device=more.device)
        tail = self.valid & (columns >= (self.start + lengths)[:, None])
        tokens = self.canvas.tokens.masked_fill(tail, self.model.stop[0])
        self.canvas = replace(self.canvas, tokens=tokens, open=self.canvas.open & ~tail)
        return False

    def _write(self, raw: Tensor, at: Tensor, live: Tensor) -> Tensor:
        """Write into each row's block, grow its most doubtful column; Long[B] `at` is where the blocks begin."""
        canvas, how, width = self.canvas, self.how, raw.shape[1]
        at = self._first_open_block(at)
        place = at[:, None] + torch.arange(how.block, device=at.device)
        inside, place = place < width, place.clamp(max=width - 1)
        columns = place + self.start
        open = canvas.open.gather(-1, columns) & inside & live[:, None]
        here = raw.gather(1, place[..., None].expand(-1, -1, raw.shape[-1]))
        tokens, score = self.propose(here, canvas.rng)
        real = open & (tokens != self.model.mask_id)
        sure = real & (score > how.tau)
        other, next_score = self.propose(self.unmasked.filtered(here), canvas.rng)
        stuck = ~real.any(-1, keepdim=True)
        fallback = torch.where(stuck, open & (rank(next_score, open) == 0), real & (rank(score, real) == 0))
        commit = torch.where(sure.any(-1, keepdim=True), sure, fallback)
        chosen = torch.where(stuck, other, tokens)

        # columns behind the canvas are clamped to its last one, which only its own place may write
        target = torch.where(commit, columns, canvas.tokens.shape[1])
        self.canvas = replace(
            canvas,
            tokens=_put(canvas.tokens, target, chosen),
            open=_put(canvas.open, target, torch.zeros_like(commit)),
            score=_put(canvas.score, target, torch.where(stuck, next_score, score).to(canvas.score.dtype)),
            born=_put(canvas.born, target, canvas.step[:, None].expand_as(columns)),
            step=canvas.step + live.to(canvas.step.dtype),
        )
        room = self.length - self._lengths()
        unsure = open & ~commit & (score < how.doubt) & ((self._ending(raw) < how.surely) & (room > 0))[:, None]
        worst = unsure & (rank(-score, unsure) == 0)
        if bool(worst.any()):
            grown = torch.where(worst.any(-1), room.clamp(max=how.grow - 1), 0)
            self._insert(torch.where(worst, columns, 0).amax(-1), grown)
        return at

    def _first_open_block(self, at: Tensor) -> Tensor:
        open = self.canvas.open[:, self.start :]
        columns = torch.arange(open.shape[1], device=at.device)
        first = torch.where(open, columns, open.shape[1]).amin(-1)
        return at + (first - at).clamp_min(0) // self.how.block * self.how.block

    def _insert(self, at: Tensor, more: Tensor) -> None:
        self.canvas, self.valid = inserted(self.canvas, self.valid, (at, more), self.model.mask_id)


def ending(raw: Tensor, valid: Tensor, stop: Sequence[int], looked: int) -> Tensor:
    """Float[B]: how sure a network is that its text ends (2508.00819, sec. 3).

    The probabilities of end tokens where one is the likeliest, over the last `looked` such columns, which need not
    stand side by side; their sum divided by `looked`, also where there are fewer.

    Args:
        raw: Float[B, A, V], logits of the answer.
        valid: Bool[B, A], columns that are there.
        stop: ids that end a text.
        looked: columns to count.
    """
    best = first_largest(raw)
    ends = valid & torch.isin(best, torch.tensor(stop, dtype=torch.long, device=raw.device))
    ends = ends & (ends.flip(-1).cumsum(-1).flip(-1) <= looked)
    return torch.where(ends, probable(raw, best), 0.0).sum(-1) / looked


def inserted(canvas: Canvas, valid: Tensor, where: tuple[Tensor, Tensor], mask_id: int) -> tuple[Canvas, Tensor]:
    """Canvases with open columns put in, and Bool[B, L'] of their columns that are there.

    Args:
        canvas: as it was.
        valid: Bool[B, L], columns that are there; the rest of a row follows them, or stands before its prompt.
        where: Long[B] the column before which to insert, at most the first one behind the row; Long[B] how many.
        mask_id: what stands in the new columns.
    """
    at, more = (each[:, None] for each in where)
    old = valid.shape[1]
    here = torch.arange(old, device=at.device)
    end = torch.where(valid, here + 1, 0).amax(-1, keepdim=True) + more
    columns = torch.arange(int(end.amax()), device=at.device)
    fresh = (columns >= at) & (columns < at + more)
    source = (columns - more * (columns >= at + more)).clamp(max=old - 1)
    there = columns < end
    after = moved(canvas, torch.where(fresh, -1, source), there, mask_id)
    return after, there & (fresh | valid.gather(-1, source))


def _put(x: Tensor, columns: Tensor, values: Tensor) -> Tensor:
    """`x` with `values` at `columns`; the column behind the last takes what is not to be written."""
    wider = torch.cat([x, x[:, :1]], -1)
    return wider.scatter(-1, columns, values)[:, :-1]
