"""Low-rank adapters (LoRA, 2106.09685, eq. 3) on a decoder's matrices, and their way back into them."""

import math
from copy import deepcopy
from dataclasses import replace

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from mezzotint.config import config
from mezzotint.denoisers.networks.llama import Decoder
from mezzotint.errors import ConfigError


@config
class LoRA:
    """LoRA (2106.09685): two low-rank matrices are trained beside each frozen one."""

    rank: int = Field(default=16, gt=0)
    alpha: float = Field(default=32.0, gt=0)
    """The product of the two is scaled by alpha / rank."""
    on: tuple[str, ...] = ("q", "k", "v", "o", "gate", "up", "down")
    """Matrices of every layer that get one."""


class LowRank(nn.Module):
    """x -> base(x) + alpha / rank B A x; B starts at zero, so nothing changes before training does."""

    def __init__(self, base: nn.Linear, how: LoRA) -> None:
        super().__init__()
        self.base, self.scale = base.requires_grad_(False), how.alpha / how.rank
        self.a = nn.Parameter(torch.empty(how.rank, base.in_features))
        self.b = nn.Parameter(torch.zeros(base.out_features, how.rank))
        nn.init.kaiming_uniform_(self.a, a=math.sqrt(5))

    def forward(self, x: Tensor) -> Tensor:
        """Float[..., in] -> Float[..., out]."""
        return self.base(x) + self.scale * F.linear(F.linear(x, self.a), self.b)

    @torch.no_grad()
    def merged(self) -> nn.Linear:
        """The frozen matrix with the product added to it."""
        self.base.weight += self.scale * (self.b @ self.a)
        return self.base


class TaughtRow(nn.Module):
    """A frozen embedding of which one row, the mask's, is learned as a difference."""

    def __init__(self, base: nn.Embedding, row: int) -> None:
        super().__init__()
        self.base, self.row = base.requires_grad_(False), row
        self.change = nn.Parameter(torch.zeros(base.embedding_dim))

    @property
    def weight(self) -> Tensor:
        """Float[V, E], the frozen rows."""
        return self.base.weight

    def forward(self, tokens: Tensor) -> Tensor:
        """Long[...] -> Float[..., E]."""
        return self.base(tokens) + (tokens == self.row)[..., None] * self.change

    @torch.no_grad()
    def merged(self) -> nn.Embedding:
        """The embedding with its row changed."""
        self.base.weight[self.row] += self.change
        return self.base


def attach(decoder: Decoder, how: LoRA, mask_id: int) -> None:
    """Freeze a decoder and put adapters on it; torch's seed decides their start.

    Raises:
        ConfigError: a matrix that its layers do not have.
    """
    decoder.requires_grad_(False)
    for layer in decoder.layers:
        for name in how.on:
            base = getattr(layer, name, None)
            if not isinstance(base, nn.Linear):
                raise ConfigError(f"cannot put an adapter on {name!r}: layers have q, k, v, o, gate, up and down")
            setattr(layer, name, LowRank(base, how))
    decoder.embed = TaughtRow(decoder.embed, mask_id)  # pyright: ignore[reportAttributeAccessIssue]


def merged(decoder: Decoder) -> Decoder:
    """The same network without adapters, which shares no memory with it.

    A head that was the embedding becomes a matrix of its own: training changes the mask's row where masks are read and
    leaves it where they are predicted, so that the head stays frozen.
    """
    plain = deepcopy(decoder)
    for layer in plain.layers:
        for name, module in list(layer.named_children()):
            if isinstance(module, LowRank):
                setattr(layer, name, module.merged())
    if isinstance(plain.embed, TaughtRow):
        if plain.config.tied:
            plain.config = replace(plain.config, tied=False)
            plain.head.weight = nn.Parameter(plain.embed.weight.clone(), requires_grad=False)
        plain.embed = plain.embed.merged()
    return plain
