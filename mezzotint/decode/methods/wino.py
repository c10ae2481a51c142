"""WINO: write freely, and let a shadow of the block, in which every column is masked, judge what stands there.

Wide-in, narrow-out (the published loop of Feng-Hong/WINO-DLLM): the network reads the canvas and, behind it, the window
once more as masks at the same positions.  A shadow column sees everything but its own column, so its logits say how
likely the written token is given all the others.  The canvas sees no shadow: its logits are those without one.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from mezzotint.decode.canvas import Canvas, Step
from mezzotint.decode.propose import probable
from mezzotint.decode.reader import Network
from mezzotint.decode.rule import Unmask
from mezzotint.decode.select import rank
from mezzotint.layouts import Attend, Inputs
from mezzotint.masks import Mask
from mezzotint.rng import Rng


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

    def __call__(self, canvas: Canvas, step: Step) -> Tensor:
        tokens, columns = canvas.tokens, step.window.columns()
        width, size = tokens.shape[1], step.window.size
        position = torch.arange(width, device=tokens.device).expand_as(tokens)
        valid = None
        if self.valid is not None:
            position = (self.valid.long().cumsum(-1) - 1).clamp_min(0)
            valid = torch.cat([self.valid, torch.ones_like(columns, dtype=torch.bool)], -1)
        x = torch.cat([tokens, torch.full_like(columns, self.mask_id)], -1)
        places = torch.cat([position, position.gather(-1, columns)], -1)
        attend = Attend(width + size, width + size, shadowed(width, int(step.window.start[0])), valid)
        h = self.network.hidden(Inputs(x, places, attend), None)
        wanted = torch.cat([h.gather(1, columns[..., None].expand(-1, -1, h.shape[-1])), h[:, width:]], 1)
        return self.network.head(wanted)


@dataclass(frozen=True)
class Wino:
    """Commit all that is surer than `wide`, then reopen what the shadow gives less than `narrow`.

    At most max(5, min(20, 0.7 of what is open)) columns are committed, and fewer are reopened than were committed.
    """

    rule: Unmask
    """Its selector is not asked, and it needs a prior to put masks where columns are reopened."""
    wide: float | Tensor = 0.6
    narrow: float | Tensor = 0.9

    def __call__(self, raw: Tensor, canvas: Canvas, step: Step, rng: Rng) -> Canvas:
        """The canvas after one step; `raw` is Float[B, 2W, V], of the window and of its shadow."""
        main, shadow = raw.chunk(2, 1)

        def select(score: Tensor, open: Tensor, budget: Tensor) -> Tensor:
            most = (open.sum(-1, keepdim=True) * 7 // 10).clamp(5, 20)
            order = rank(score, open)
            return open & (order < most) & ((score > self.wide) | (order == 0))

        def revise(after: Canvas, step: Step, noise: object) -> Tensor:
            columns = step.window.columns()
            old = ~canvas.open.gather(-1, columns) & ~canvas.fixed.gather(-1, columns)
            doubt = probable(shadow, canvas.tokens.gather(-1, columns))
            weak = old & (doubt < self.narrow)
            won = (canvas.open & ~after.open).gather(-1, columns).sum(-1, keepdim=True)
            return weak & (rank(-doubt, weak) < won - 1)

        return replace(self.rule, select=select, revise=revise)(main, canvas, step, rng)
