"""The form of families whose texts change their length while they are written."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from mezzotint.decode.canvas import Canvas
from mezzotint.decode.loop import Denoise
from mezzotint.decode.plan import Plan
from mezzotint.decode.samplers.insert_delete import Whole, anchored
from mezzotint.denoisers.networks.small_transformer import Transformer
from mezzotint.denoisers.networks.trunk import Trunk, transformer
from mezzotint.families.forms.tokens import Rows, whole


@dataclass(frozen=True)
class Elastic:
    """Holes that take as many tokens as they have columns, or fewer; an anchor stands in front."""

    blank: int
    heads: Callable[[Transformer, int, int], nn.Module]
    """(trunk, its width, vocab) -> the network, from a trunk over one id more."""

    def network(self, trunk: Trunk, vocab: int) -> nn.Module:
        body = transformer(trunk).build(vocab + 1)
        del body.head
        return self.heads(body, trunk.width, vocab)

    def canvas(self, rows: Rows, seeds: Sequence[int]) -> Canvas:
        return anchored(rows, self.blank, seeds)

    def reader(self, network: Any) -> Denoise:
        return whole(network)

    def plan(self, canvas: Canvas, steps: int) -> Plan:
        return Whole(steps)

    def written(self, canvas: Canvas) -> Tensor:
        return canvas.tokens[:, 1:]
