"""DreamOn: blanks of unknown length, whose masks expand to two or vanish (2602.01326, sec. 3).

Two ids of the vocabulary say so: one stands for two masks, the other for nothing.  A blank is any run of open columns;
each grows and shrinks by itself, and all of a text together hold no more than it may have tokens.  Columns move while a
text is written, so everything is read in every pass.  A column can become two only so often, so a text always ends.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from mezzotint.config import config
from mezzotint.decode.canvas import GIVEN, Canvas, Places, Span, Step, infill, moved, rebuilt
from mezzotint.decode.generation import Generation
from mezzotint.decode.methods.presets import SCORES
from mezzotint.decode.propose import Draw
from mezzotint.decode.reader import Reader
from mezzotint.decode.rule import Unmask
from mezzotint.decode.run import MaskedModel, undecided
from mezzotint.decode.select import Top
from mezzotint.decode.shapers import Ban, Filter, Temperature, TopP
from mezzotint.errors import CanvasError, ConfigError


@config
class DreamOn:
    """How blanks are filled; the numbers are the authors'."""

    first: int = Field(default=4, gt=0)
    """Masks that a blank begins with where nothing says how many."""
    at_once: int = Field(default=1, gt=0)
    """Columns that a pass writes, the surest."""
    expansions: int | None = Field(default=None, ge=0)
    """How often a column of a text may become two; null: as often as the text may have tokens."""
    sweep: bool = False
    """A column that becomes none takes the masks behind it in its blank along."""
    confidence: Literal["probability", "margin", "entropy"] = "entropy"
    """What makes a column sure, under the temperature and top-p that tokens are drawn with."""
    temperature: float = Field(default=0.2, ge=0)
    top_p: float = Field(default=0.9, gt=0, le=1)

    def begin(
        self,
        model: MaskedModel,
        prompts: Sequence[Sequence[int | None]],
        length: int,
        seeds: Sequence[int] | None = None,
    ) -> "DreamOnRun":
        """Fill the blanks of every prompt, runs of None, with at most `length` tokens together.

        A blank begins with as many masks as it has Nones; a prompt without any has one behind it.

        Raises:
            ConfigError: a network of blocks, or one whose checkpoint names no ids that stand for two masks and none.
            CanvasError: no prompt, a length that is not positive, or less than the masks that a prompt begins with.
        """
        if model.block is not None:
            raise ConfigError("a network of blocks keeps its columns where they are: it has no blanks that grow")
        if model.stretch_ids is None:
            raise ConfigError(
                "the checkpoint names no tokens that stand for two masks and for nothing: its config.json needs "
                "expand_token_id and delete_token_id"
            )
        if length < 1:
            raise CanvasError(f"cannot write {length} tokens: ask for at least 1")
        rows = [row if None in row else [*row, *[None] * min(self.first, length)] for row in prompts]
        for index, row in enumerate(rows):
            if (masks := list(row).count(None)) > length:
                raise CanvasError(
                    f"the blanks of text {index} begin with {masks} masks and may have {length} tokens: ask for more "
                    "tokens, or begin with fewer masks"
                )
        return DreamOnRun(self, model, rows, length, seeds)


class DreamOnRun(Generation):
    """One generation: iterating gives the canvas after each pass; texts are what the blanks hold."""

    def __init__(
        self,
        how: DreamOn,
        model: MaskedModel,
        rows: Sequence[Sequence[int | None]],
        length: int,
        seeds: Sequence[int] | None,
    ) -> None:
        assert model.stretch_ids is not None
        self.how, self.model, self.length, self.stop = how, model, length, ()
        self.expand, self.delete = model.stretch_ids
        self.canvas = infill(rows, model.prior, seeds).to(model.device)
        ends = torch.tensor([len(row) for row in rows], device=model.device)
        self.valid = torch.arange(self.canvas.tokens.shape[1], device=model.device) < ends[:, None]
        self.left = torch.full_like(self.canvas.seed, length if how.expansions is None else how.expansions)
        self.reader = Reader(model.network, sees=model.sees)
        self.reads = self.reader.passes
        heat: tuple[Filter, ...] = (Temperature(how.temperature),) if how.temperature else ()
        filters = (*heat, TopP(how.top_p)) if how.top_p < 1 else heat
        draw = Draw(1.0 if heat else 0.0, SCORES[how.confidence])
        self.rule = Unmask(draw, Top(how.at_once), shapers=(Ban(model.never), *filters))

    def steps(self) -> Iterator[Canvas]:
        while bool(self.canvas.open.any()):
            self._pass()
            yield self.canvas

    def _pass(self) -> None:
        canvas = self.canvas
        start, t = torch.zeros_like(canvas.seed), torch.ones(len(canvas.seed), 1, device=canvas.seed.device)
        step = Step(Span(start, canvas.tokens.shape[1]), torch.ones_like(start), 0, t, t)
        only = undecided(canvas.open)
        self.reader.valid = self.valid
        raw = self.reader(canvas, step, only)
        room = torch.minimum(self.length - (~canvas.fixed).sum(-1), self.left)
        raw[room <= 0, :, self.expand] = -torch.inf
        after = self.rule(raw, canvas, replace(step, window=Places(start, only)), canvas.rng)
        self._resize(canvas.open, after, room)

    def _resize(self, open: Tensor, after: Canvas, room: Tensor) -> None:
        """Put two masks where one was expanded, as long as there is room, and take out what was deleted.

        Args:
            open: Bool[B, L], columns that were open before the pass.
            after: what the pass has written.
            room: Long[B], how many columns may become two.
        """
        assert self.valid is not None
        wrote = open & ~after.open
        gone = wrote & (after.tokens == self.delete)
        if self.how.sweep:
            gone = gone | (open & _behind(gone, after.fixed))
        grows = wrote & (after.tokens == self.expand) & ~gone
        fits = grows & (grows.cumsum(-1) <= room[:, None])
        self.left = self.left - fits.sum(-1)
        after = replace(
            after,
            tokens=after.tokens.masked_fill(grows, self.model.mask_id),
            open=after.open | grows,
            score=after.score.masked_fill(grows, 0),
            born=after.born.masked_fill(grows, GIVEN),
        )
        counts = self.valid.long() - gone.long() + fits.long()
        ends = counts.sum(-1, keepdim=True)
        width = int(ends.amax())
        self.valid = torch.arange(width, device=ends.device) < ends
        self.canvas = moved(after, rebuilt(counts, width), self.valid, self.model.mask_id)


def _behind(some: Tensor, fixed: Tensor) -> Tensor:
    """Bool[B, L]: columns with one of `some` before them in their own run of columns that are not fixed."""
    so_far = some.cumsum(-1)
    return so_far > torch.where(fixed, so_far, 0).cummax(-1).values
