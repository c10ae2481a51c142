"""How the texts of a family trained from scratch lie on a canvas, and how its network around a trunk reads them.

Training, its samples, `mezzotint generate` and the league ask a form; they know nothing of vectors or of anchors.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from torch import Tensor, nn

from mezzotint.decode.caches.policies import FinishedBlocks
from mezzotint.decode.canvas import Canvas, Prior, Step, infill
from mezzotint.decode.loop import Denoise
from mezzotint.decode.plan import Blocks, Plan, multiples
from mezzotint.decode.reader import Reader
from mezzotint.denoisers.networks.trunk import Trunk
from mezzotint.layouts import Full
from mezzotint.masks import block_causal

Rows = Sequence[Sequence[int | None]]
"""Texts with a None for every column that is to be written."""
Planned = Callable[[int, int], Plan]
"""(columns of a window, steps for each) -> the plan of a canvas."""
Reading = Callable[[Any], Denoise]
"""A network -> what one canvas is read with, from its first step to its last."""


class CanvasForm(Protocol):
    """See above."""

    @property
    def blank(self) -> int | None:
        """The id of a column that holds nothing; None where texts fill their canvas."""
        ...

    def network(self, trunk: Trunk, vocab: int) -> nn.Module:
        """A fresh network over `vocab` ids, [MASK] included."""
        ...

    def canvas(self, rows: Rows, seeds: Sequence[int]) -> Canvas:
        """The texts as they are before the first step."""
        ...

    def reader(self, network: Any, /) -> Denoise:
        """Reads one canvas, from its first step to its last."""
        ...

    def plan(self, canvas: Canvas, steps: int) -> Plan:
        """The steps of a canvas, about `steps` in all."""
        ...

    def written(self, canvas: Canvas) -> Tensor:
        """Long[B, L]: the columns of `rows`, with `blank` where there is nothing."""
        ...


def whole(network: Any) -> Denoise:
    """Every column in every step."""

    def denoise(canvas: Canvas, step: Step) -> Tensor:
        raw = network(Full().arrange(canvas.tokens, canvas.tokens), step.t)
        return raw.gather(1, step.window.columns()[..., None].expand(-1, -1, raw.shape[-1]))

    return denoise


def settled(block: int) -> Reading:
    """Block-causal networks: every finished block once (decode/caches/policies.py `FinishedBlocks`)."""
    return lambda network: Reader(network, FinishedBlocks(block), partial(block_causal, block))


def everything(network: Any) -> Denoise:
    """The same for networks in two halves, which then answer only the window's columns."""
    return Reader(network, timed=True)


def even_steps(size: int, steps: int) -> Plan:
    """Windows at the multiples of `size`, each in `steps` equal steps of time."""
    return Blocks(size, steps, place=multiples)


@dataclass(frozen=True)
class Tokens:
    """One column per token; where there are blocks, steps are shared out over them."""

    prior: Prior
    reader: Reading = everything
    block: int | None = None
    blank: int | None = None
    planned: Planned = even_steps

    def network(self, trunk: Trunk, vocab: int) -> nn.Module:
        return trunk.build(vocab)

    def canvas(self, rows: Rows, seeds: Sequence[int]) -> Canvas:
        return infill(rows, self.prior, seeds)

    def plan(self, canvas: Canvas, steps: int) -> Plan:
        width = canvas.tokens.shape[1]
        size = self.block or width
        return self.planned(size, max(1, round(steps / -(-width // size))))

    def written(self, canvas: Canvas) -> Tensor:
        return canvas.tokens
