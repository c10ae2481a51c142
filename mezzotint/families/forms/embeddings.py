"""The form of families on vectors: one vector per token, rounded to tokens as it moves."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from mezzotint.decode.canvas import Canvas
from mezzotint.decode.loop import Denoise
from mezzotint.decode.plan import Blocks, Plan, multiples
from mezzotint.decode.samplers.embedding_canvas import begin, one_time, own_times, reading, unread
from mezzotint.denoisers.networks.embedding_network import EmbeddingNetworkConfig
from mezzotint.denoisers.networks.trunk import Trunk, transformer
from mezzotint.families.forms.tokens import Rows
from mezzotint.processes.gaussian import Gaussian
from mezzotint.processes.gaussian_schedules import Respaced

ALPHABET = 1000
"""Most ids that need no more room than letters do."""


def real(vocab: int, mask_id: int) -> int:
    """How many ids have a vector: [MASK], where it is the last, has none and is never written."""
    return vocab - (mask_id == vocab - 1)


def features(asked: int | None, ids: int, letters: int, words: int) -> int:
    """How many an embedding has: as many as asked for, else one number for alphabets and one for vocabularies."""
    return asked if asked is not None else letters if ids <= ALPHABET else words


@dataclass(frozen=True)
class Latent:
    """One vector per token, noised in a chain of T = `steps`."""

    process: Gaussian
    steps: int
    conditioned: Callable[[nn.Module], nn.Module] | None = None
    """Wraps a network that is shown given columns and its last estimate; None: it sees neither for what they are."""
    blank: int | None = None

    def network(self, trunk: Trunk, vocab: int) -> nn.Module:
        if self.conditioned is None:
            return EmbeddingNetworkConfig(trunk=transformer(trunk)).build(self.process)
        return self.conditioned(EmbeddingNetworkConfig(trunk=transformer(trunk), conditions=True).build(self.process))

    def canvas(self, rows: Rows, seeds: Sequence[int]) -> Canvas:
        laid = begin(rows, self.process, seeds)
        return unread(laid) if self.conditioned else laid

    def reader(self, network: Any) -> Denoise:
        return reading(network, clock=own_times if self.conditioned else one_time)

    def plan(self, canvas: Canvas, steps: int) -> Plan:
        return Blocks(canvas.tokens.shape[1], min(steps, self.steps), times=Respaced(self.steps), place=multiples)

    def written(self, canvas: Canvas) -> Tensor:
        return canvas.tokens
