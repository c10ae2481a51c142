"""WINO, wide-in and narrow-out: draft many tokens, verify each without itself, mask again those that fail (2507.18578).

One pass reads the canvas and, behind it, the window once more as masks at the same positions.  Such a shadow mask sees
every column of the canvas but its own, so its logits say how likely the token written there is given all the others.
The canvas sees no shadow: its logits are those without one.  The numbers are those of the published loop.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import torch
from pydantic import Field
from torch import Tensor

from mezzotint.config import config
from mezzotint.decode.canvas import Canvas, Step
from mezzotint.decode.generation import Generation
from mezzotint.decode.loop import decode
from mezzotint.decode.plan import Blocks
from mezzotint.decode.propose import Draw, probable
from mezzotint.decode.reader import Network
from mezzotint.decode.rule import Unmask
from mezzotint.decode.run import MaskedModel, lay_out
from mezzotint.decode.select import rank
from mezzotint.decode.shapers import Ban, Beside, Filter, Temperature, TopP
from mezzotint.decode.stopping import Until
from mezzotint.errors import ConfigError
from mezzotint.layouts import Attend, Inputs
from mezzotint.masks import Mask
from mezzotint.rng import Rng


@config
class Wino:
    """Draft tokens above one threshold, and mask again those that the rest of the text makes unlikely."""

    block: int = Field(default=128, gt=0)
    """Columns that are written at a time."""
    threshold: float = Field(default=0.6, ge=0, le=1)
    """Open columns surer than this are written, always at least one."""
    threshold_back: float = Field(default=0.9, ge=0, le=1)
    """Written tokens less likely than this, given all other columns, are masked again."""
    temperature: float = Field(default=0.0, ge=0)
    top_p: float = Field(default=1.0, gt=0, le=1)

    def begin(
        self, model: MaskedModel, prompts: Sequence[Sequence[int]], length: int, seeds: Sequence[int] | None = None
    ) -> "WinoRun":
        """Continue every prompt by at most `length` tokens.

        Raises:
            ConfigError: a network whose columns do not all see one another, or that predicts one column early.
            CanvasError: no prompt, or a length that is not positive.
        """
        if model.block is not None or model.sees(0) is not None or model.network.lookback:
            raise ConfigError(
                "wino verifies a token by all the others: it needs full attention and logits in place, as LLaDA's"
            )
        return WinoRun(self, model, prompts, length, seeds)


class WinoRun(Generation):
    """One generation: iterating gives the canvas after each pass."""

    def __init__(
        self,
        how: Wino,
        model: MaskedModel,
        prompts: Sequence[Sequence[int]],
        length: int,
        seeds: Sequence[int] | None,
    ) -> None:
        self.how, self.length, self.stop = how, length, model.stop
        self.canvas, self.valid = lay_out(model, prompts, length, seeds)
        self.reader = WinoReader(model.network, model.mask_id, self.valid)
        self.reads = self.reader.passes
        heat: tuple[Filter, ...] = (Temperature(how.temperature),) if how.temperature else ()
        filters = (*heat, TopP(how.top_p)) if how.top_p < 1 else heat
        draw = Draw(1.0 if heat else 0.0, probable)
        propose = Beside(draw, filters, probable) if filters else draw
        rule = Unmask(propose, shapers=(Ban(model.never),), prior=model.prior)
        self.rule = WinoRule(rule, how.threshold, how.threshold_back)

    def steps(self) -> Iterator[Canvas]:
        # a token of the window may be masked again, so a text ends between windows only
        plan = Until(Blocks(self.how.block), self.stop, settled=True)
        for canvas in decode(self.canvas, self._read, self.rule, plan):
            self.canvas = canvas
            yield canvas

    def _read(self, canvas: Canvas, step: Step) -> Tensor:
        self.final = int(step.window.start.amin())
        return self.reader(canvas, step)


def shadowed(columns: int, start: int) -> Mask:
    """`columns` columns and the shadow of those from `start` on behind them."""

    def mask(row: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        own = key == query - columns + start
        return (key < columns) & ~((query >= columns) & own) | (query >= columns) & (key >= columns)

    return mask


@dataclass
class WinoReader:
    """(canvas, step) -> Float[B, 2W, V]: logits of the window, then of its shadow.  Rows share their windows."""

    network: Network
    mask_id: int
    valid: Tensor | None = None
    """Bool[B, L]: columns that are not padding; None is all."""
    passes: list[int] = field(default_factory=list)
    """How many columns each pass read, per row."""

    def __call__(self, canvas: Canvas, step: Step) -> Tensor:
        tokens, columns = canvas.tokens, step.window.columns()
        width, size = tokens.shape[1], step.window.size
        position = torch.arange(width, device=tokens.device).expand_as(tokens)
        valid = None
        if self.valid is not None:
            position = (self.valid.long().cumsum(-1) - 1).clamp_min(0)
            valid = torch.cat([self.valid, torch.ones_like(columns, dtype=torch.bool)], -1)
        self.passes.append(width + size)
        x = torch.cat([tokens, torch.full_like(columns, self.mask_id)], -1)
        places = torch.cat([position, position.gather(-1, columns)], -1)
        attend = Attend(width + size, width + size, shadowed(width, int(step.window.start[0])), valid)
        h = self.network.hidden(Inputs(x, places, attend), None)
        wanted = torch.cat([h.gather(1, columns[..., None].expand(-1, -1, h.shape[-1])), h[:, width:]], 1)
        return self.network.head(wanted)


@dataclass(frozen=True)
class WinoRule:
    """Write all columns surer than `threshold`, then mask again those to which the shadow gives less than the other.

    At most max(5, min(20, 0.7 of what is open)) columns are written, and fewer are masked again than were written.
    """

    rule: Unmask
    """Its selector is replaced, and it needs a prior to put masks where columns are reopened."""
    threshold: float | Tensor = 0.6
    threshold_back: float | Tensor = 0.9

    def __call__(self, raw: Tensor, canvas: Canvas, step: Step, rng: Rng) -> Canvas:
        """The canvas after one step; `raw` is Float[B, 2W, V], of the window and of its shadow."""
        main, shadow = raw.chunk(2, 1)

        def select(score: Tensor, open: Tensor, budget: Tensor) -> Tensor:
            most = (open.sum(-1, keepdim=True) * 7 // 10).clamp(5, 20)
            order = rank(score, open)
            return open & (order < most) & ((score > self.threshold) | (order == 0))

        def revise(after: Canvas, step: Step, noise: object) -> Tensor:
            columns = step.window.columns()
            old = ~canvas.open.gather(-1, columns) & ~canvas.fixed.gather(-1, columns)
            doubt = probable(shadow, canvas.tokens.gather(-1, columns))
            weak = old & (doubt < self.threshold_back)
            written = (canvas.open & ~after.open).gather(-1, columns).sum(-1, keepdim=True)
            return weak & (rank(-doubt, weak) < written - 1)

        return replace(self.rule, select=select, revise=revise)(main, canvas, step, rng)
