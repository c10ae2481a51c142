"""FreeDave: several decoding steps drafted from one prediction and verified in one batched pass, losslessly.

From one prediction, repeating the rule on it gives a chain of drafts: what would be written if the network never
changed its mind.  One batched pass reads all of them, and the rule on each says what really comes after it.  As long
as that is the next draft, the chain stands (FreeDave, 2510.00294; SSD, 2510.04147, drafts the whole block).  The text
is the one that single steps write, whatever the rule: draws are keyed by step, so it holds at any temperature.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields, replace

import torch
from pydantic import Field
from torch import Tensor

from mezzotint.config import config
from mezzotint.decode.canvas import Canvas, Places, Span, Step
from mezzotint.decode.generation import Generation
from mezzotint.decode.methods.choices import ExactCache
from mezzotint.decode.methods.presets import Preset, decoding
from mezzotint.decode.plan import following, multiples
from mezzotint.decode.reader import ClassifierFreeGuidance, Reader
from mezzotint.decode.run import MaskedModel, lay_out
from mezzotint.decode.stopping import confirmed
from mezzotint.errors import ConfigError


@config
class FreeDave:
    """Another way of decoding, several steps at a time."""

    how: Preset = Preset(cache=ExactCache())
    """What single steps would do; one step per column, or as many columns as its choice takes."""
    drafts: int = Field(default=4, gt=0)
    """Canvases that a pass reads for every text; the cost of a pass grows with them."""

    def begin(
        self, model: MaskedModel, prompts: Sequence[Sequence[int]], length: int, seeds: Sequence[int] | None = None
    ) -> "FreeDaveRun":
        """Continue every prompt by at most `length` tokens, as `how` does.

        Raises:
            ConfigError: a way whose steps depend on more than the canvas.
            CanvasError: no prompt, or a length that is not positive.
        """
        how = self.how
        unfit = {
            "edits": how.edit is not None,
            "a sliding window": how.sliding,
            "a seeded block": how.seeded,
            "an ancestral schedule": how.confidence == "ancestral",
            "a choice that looks at earlier steps": how.choose.depends_on_history,
            "a number of steps": how.steps is not None or how.steps_per_block is not None,
            "an approximate cache": model.block is None and how.cache.kind not in ("none", "exact"),
        }
        if found := [name for name, is_so in unfit.items() if is_so]:
            raise ConfigError(f"cannot foresee steps with {found[0]}: they depend on more than the canvas")
        return FreeDaveRun(self, model, prompts, length, seeds)


class FreeDaveRun(Generation):
    """One generation: iterating gives the canvas after each pass."""

    def __init__(
        self,
        how: FreeDave,
        model: MaskedModel,
        prompts: Sequence[Sequence[int]],
        length: int,
        seeds: Sequence[int] | None,
    ) -> None:
        self.how, self.model, self.length = how, model, length
        self.canvas, self.valid = lay_out(model, prompts, length, seeds)
        self.parts = decoding(how.how, model, length)
        self.stop = model.stop if self.parts.halt else ()
        blind = torch.tensor([model.mask_id], device=model.device)
        guidance = ClassifierFreeGuidance(how.how.guidance, blind) if how.how.guidance else None
        valid = None if self.valid is None else self.valid.repeat_interleave(how.drafts, 0)
        self.reader = Reader(model.network, self.parts.policy, model.sees, valid, guidance)
        self.reads = self.reader.passes

    def steps(self) -> Iterator[Canvas]:
        place = following if self.model.block is None else multiples
        for window in place(self.canvas, self.how.how.block or self.model.block or self.length):
            if bool(self._live(window).any()):
                yield from self._window(window)

    def _live(self, window: Span) -> Tensor:
        """Bool[B]: rows that have not ended and have something open in the window."""
        return self.canvas.open.gather(-1, window.columns()).any(-1) & ~confirmed(self.canvas, self.stop)

    def _window(self, window: Span) -> Iterator[Canvas]:
        drafts, rows = self.how.drafts, torch.arange(len(self.canvas.seed), device=self.canvas.seed.device)
        wide = Span(window.start.repeat_interleave(drafts), window.size)
        # a memory has a row for every draft, so that the first look reads the same canvas as often
        first = _stacked([self.canvas] * drafts)
        raw = self.reader(first, self._step(wide, first))[::drafts]
        while bool((live := self._live(window)).any()):
            step, chain = replace(self._step(window, self.canvas), live=live), [self.canvas]
            for _ in range(drafts):
                chain.append(self._ruled(raw, chain[-1], step))
            self.canvas = chain[1]
            if bool(self._live(window).any()):
                guesses = _stacked(chain[1:])
                step = replace(self._step(wide, guesses), live=live.repeat_interleave(drafts))
                raws = self.reader(guesses, step)
                real = self._ruled(raws, guesses, step)
                kept = agreed(real, guesses, drafts)
                at = rows * drafts + kept
                self.canvas, raw = _rows(guesses, at), raws[at]
            yield self.canvas

    def _ruled(self, raw: Tensor, canvas: Canvas, step: Step) -> Canvas:
        """The rule, seeing the window's open columns only where single steps do, since draws are keyed by them."""
        if self.parts.focus:
            columns = step.window.columns()
            open = canvas.open.gather(-1, columns)
            only = (~open).long().argsort(dim=-1, stable=True)[:, : max(1, int(open.sum(-1).amax()))]
            raw = raw.gather(1, only[..., None].expand(-1, -1, raw.shape[-1]))
            step = replace(step, window=Places(step.window.start, columns.gather(-1, only)))
        return self.parts.rule(raw, canvas, step, canvas.rng)

    def _step(self, window: Span, canvas: Canvas) -> Step:
        ones = torch.ones(len(canvas.seed), 1, device=canvas.seed.device)
        return Step(window, ones[:, 0].long(), 0, ones, torch.zeros_like(ones))


def agreed(real: Canvas, guesses: Canvas, drafts: int) -> Tensor:
    """Long[B]: how many drafts after the first one are what really comes after the draft before them."""
    same = (real.tokens.unflatten(0, (-1, drafts))[:, :-1] == guesses.tokens.unflatten(0, (-1, drafts))[:, 1:]) & (
        real.open.unflatten(0, (-1, drafts))[:, :-1] == guesses.open.unflatten(0, (-1, drafts))[:, 1:]
    )
    return same.all(-1).long().cumprod(-1).sum(-1)


def _stacked(chain: Sequence[Canvas]) -> Canvas:
    """Canvases of B rows as one of B K rows, those of a text side by side."""
    return _each(chain[0], lambda name: torch.stack([getattr(each, name) for each in chain], 1).flatten(0, 1))


def _rows(canvas: Canvas, at: Tensor) -> Canvas:
    return _each(canvas, lambda name: getattr(canvas, name)[at])


def _each(canvas: Canvas, change: Callable[[str], Tensor]) -> Canvas:
    names = [field.name for field in fields(canvas) if isinstance(getattr(canvas, field.name), Tensor)]
    return replace(canvas, **{name: change(name) for name in names})
