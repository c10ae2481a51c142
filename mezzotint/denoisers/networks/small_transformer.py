"""A small modern transformer for training from scratch: pre-norm, RoPE, RMSNorm, SwiGLU, any attention mask.

RoPE 2104.09864, RMSNorm 1910.07467, SwiGLU 2002.05202; time conditioning, where asked for, adds features of the noise
level to every column (2006.11239, App. B).
"""

from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from mezzotint.config import config
from mezzotint.denoisers.layers.attention import Mixer, mixer
from mezzotint.denoisers.layers.fused_ops import RMSNorm, gated, rotate
from mezzotint.denoisers.layers.kv_cache import KVCache, appended
from mezzotint.denoisers.native.dense import DenseLayer, DenseShape
from mezzotint.denoisers.native.small_networks import NativeSmallNetwork, Parts, swift
from mezzotint.errors import ConfigError
from mezzotint.layouts import Inputs, Memory


@config
class TransformerConfig:
    """The shape of a Transformer."""

    kind: Literal["transformer"] = "transformer"
    width: int = Field(default=256, gt=0)
    """Features of a column."""
    layers: int = Field(default=4, gt=0)
    """Blocks of attention and SwiGLU."""
    heads: int = Field(default=4, gt=0)
    """Must divide `width` into even parts."""
    hidden: int | None = Field(default=None, gt=0)
    """Inner width of SwiGLU; null: 8/3 of `width`, rounded up to 64."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Share of what blocks add that is left out in training."""
    timed: bool = False
    """Tell the network the time; masked families do without."""
    classes: int = Field(default=0, ge=0)
    """Classes of texts that it may be told; one more id, `classes`, stands for none."""
    base: float = Field(default=100.0, gt=1)
    """Of the rotations: their slowest turns in about six times as many columns.  10000 for texts of thousands."""
    lean: float = Field(default=3.5, ge=0)
    """How strongly a fresh head looks at its place in `offsets`; 0: not at all."""
    offsets: tuple[int, ...] = Field(default=(-1, 1, -2, 2), min_length=1)
    """Where fresh heads look, in columns from their own, in turn; autoregression has no use for those above 0."""

    def build(self, vocab: int) -> "Transformer":
        """A freshly initialised network over `vocab` ids.

        Raises:
            ConfigError: heads that do not divide the width into even parts.
        """
        if self.width % (2 * self.heads):
            raise ConfigError(
                f"cannot split a width of {self.width} over {self.heads} heads: take a multiple of {2 * self.heads}"
            )
        return Transformer(self, vocab)


class Transformer(nn.Module):
    """Inputs -> logits Float[B, N, V] for tokens Long[B, N], or for weights over them, Float[B, N, V].

    A trunk whose embeddings were taken away reads vectors, Float[B, N, width].

    `hidden` and `head` are its two halves, so that an objective can score only the columns that count.

    Two choices of its start matter more to a small masked network than its optimiser: embeddings as large as what the
    blocks add to them, so that a token is not drowned by the average of its neighbours, and heads that lean towards the
    nearest columns.  Without them it stays at the unigram for hundreds of steps.
    """

    lookback = 0

    def __init__(self, shape: TransformerConfig, vocab: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(vocab, shape.width)
        self.time = Features(shape.width) if shape.timed else None
        self.told = nn.Embedding(shape.classes + 1, shape.width) if shape.classes else None
        self.blocks = nn.ModuleList([_Block(shape) for _ in range(shape.layers)])
        self.norm = RMSNorm(shape.width)
        self.head = nn.Linear(shape.width, vocab, bias=False)
        self.head_width, self.base = shape.width // shape.heads, shape.base
        nn.init.normal_(self.embed.weight, std=1.0)
        nn.init.zeros_(self.head.weight)
        if self.told is not None:
            nn.init.zeros_(self.told.weight)

    def forward(self, inputs: Inputs, t: Tensor | None = None) -> Tensor:
        """Logits for every column of `inputs`."""
        return self.head(self.hidden(inputs, t))

    def hidden(self, inputs: Inputs, t: Tensor | None = None) -> Tensor:
        """Float[B, N, width], normalised, ready for `head`."""
        h, mix, turn = self._begin(inputs, t)
        for depth, block in enumerate(self.blocks):
            h = block(h, turn, mix, depth, inputs.memory)
        if inputs.memory is not None:
            inputs.memory.length += inputs.x.shape[1]
        return self.norm(h)

    def hidden_at(self, inputs: Inputs, t: Tensor | None, rows: Tensor) -> Tensor:
        """Float[n, width]: `hidden` of the columns Long[n] `rows`, counted through [B, L] without the clean half.

        The last block computes no more than these columns need.
        """
        columns = inputs.x.shape[1] // (1 if inputs.attend.twin is None else 2)
        h, mix, turn = self._begin(inputs, t)
        *body, last = self.blocks
        assert isinstance(last, _Block)
        for depth, block in enumerate(body):
            h = block(h, turn, mix, depth)
        return self.norm(last.at(h, turn, mix, columns, rows))

    def memory(self, rows: int, columns: int) -> KVCache:
        """Room for the keys and values of `columns` columns."""
        weight = self.embed.weight
        shape = (len(self.blocks), rows, weight.shape[1] // self.head_width, columns, self.head_width)
        return KVCache(shape, dtype=weight.dtype, device=weight.device)

    def ready(self) -> NativeSmallNetwork | None:
        """Kernels for the weights as they are now; None where there are none for them, or columns are dropped."""
        kinds = (Transformer, _Block, Features, RMSNorm, nn.ModuleList, nn.Embedding, nn.Linear)
        still = not self.training or not any(block.dropout for block in self.blocks)
        return swift(self, kinds, self._parts, self._embedded) if still else None

    def _parts(self) -> Parts:
        width, layers = self.norm.weight.shape[0], []
        for block in self.blocks:
            assert isinstance(block, _Block)
            layers.append(block.parts())
        inner, heads = layers[0].down.shape[1], width // self.head_width
        shape = DenseShape(width, inner, heads, heads, self.head_width, self.head_width, self.norm.eps)
        rate = rates(self.head_width, self.base)
        return Parts(shape, layers, self.norm.weight, self.head.weight, lambda at: at[:, None].float() * rate)

    def _begin(self, inputs: Inputs, t: Tensor | None) -> tuple[Tensor, Mixer, Tensor]:
        h = self._embedded(inputs, t)
        return h, mixer(inputs.attend, inputs.x.device), turns(inputs.positions, rates(self.head_width, self.base))

    def _embedded(self, inputs: Inputs, t: Tensor | None) -> Tensor:
        h = inputs.x
        if not h.is_floating_point():
            h = self.embed(h)
        elif hasattr(self, "embed"):
            h = h.to(self.embed.weight.dtype) @ self.embed.weight
        if self.time is not None:
            if t is None:
                raise ConfigError("this network was built with timed=true and was given no time")
            h = h + self.time(per_column(t, h.shape[1])).to(h.dtype)
        if self.told is not None:
            none = inputs.positions.new_full((len(h),), self.told.num_embeddings - 1)
            h = h + self.told(none if inputs.label is None else inputs.label)[:, None]
        elif inputs.label is not None:
            raise ConfigError("this network knows no classes: build it with classes > 0 or give no label")
        return h


class _Block(nn.Module):
    def __init__(self, shape: TransformerConfig) -> None:
        super().__init__()
        width = shape.width
        hidden = shape.hidden or -(-8 * width // (3 * 64)) * 64
        self.heads, self.dropout = shape.heads, shape.dropout
        self.before_attention, self.before_mlp = RMSNorm(width), RMSNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width, bias=False)
        self.gate_up, self.down = nn.Linear(width, 2 * hidden, bias=False), nn.Linear(hidden, width, bias=False)
        for layer in (self.qkv, self.gate_up):
            nn.init.normal_(layer.weight, std=width**-0.5)
        for layer in (self.out, self.down):
            nn.init.normal_(layer.weight, std=(2 * shape.layers * layer.in_features) ** -0.5)
        with torch.no_grad():
            self.qkv.bias.copy_(_leaning(shape))

    def forward(self, h: Tensor, turn: Tensor, mix: Mixer, depth: int, memory: Memory | None = None) -> Tensor:
        q, k, v = self._heads(self.qkv(self.before_attention(h)), 3)
        q, k = rotate(q, turn), rotate(k, turn)
        if memory is not None:
            k, v = appended(memory.layer(depth, k.shape[2]), k, v)
        return self._after(h, _joined(mix(q, k, v)))

    def at(self, h: Tensor, turn: Tensor, mix: Mixer, columns: int, rows: Tensor) -> Tensor:
        """Float[n, width]: the block's answers at `rows` of the first `columns` columns, for keys in all of them."""
        width = h.shape[-1]
        seen = self.before_attention(h)
        weight, bias = self.qkv.weight, self.qkv.bias
        k, v = self._heads(F.linear(seen, weight[width:], bias[width:]), 2)
        (q,) = self._heads(F.linear(seen[:, :columns], weight[:width], bias[:width]), 1)
        mixed = _joined(mix(rotate(q, turn[..., :columns, :]), rotate(k, turn), v))
        return self._after(picked(h[:, :columns], rows), picked(mixed, rows))

    def parts(self) -> DenseLayer:
        """The block's parameters by name."""
        width = self.out.in_features
        q, kv = self.qkv.weight.split([width, 2 * width])
        q_bias, kv_bias = self.qkv.bias.split([width, 2 * width])
        norms = self.before_attention.weight, self.before_mlp.weight
        return DenseLayer(*norms, q, kv, self.out.weight, self.gate_up.weight, self.down.weight, q_bias, kv_bias)

    def _heads(self, x: Tensor, parts: int) -> tuple[Tensor, ...]:
        batch, columns, _ = x.shape
        return x.view(batch, columns, parts, self.heads, -1).permute(2, 0, 3, 1, 4).unbind(0)

    def _after(self, h: Tensor, mixed: Tensor) -> Tensor:
        h = h + self._drop(self.out(mixed))
        return h + self._drop(self.down(gated(self.gate_up(self.before_mlp(h)))))

    def _drop(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.dropout, self.training) if self.dropout else x


class Features(nn.Module):
    """Float[B, N] times -> Float[B, N, width]: sinusoids of 1000 t through a small network, zero at the start."""

    def __init__(self, width: int, waves: int = 128) -> None:
        super().__init__()
        self.waves = waves
        self.inner, self.outer = nn.Linear(waves, width), nn.Linear(width, width)
        nn.init.zeros_(self.outer.weight)
        nn.init.zeros_(self.outer.bias)

    def forward(self, t: Tensor) -> Tensor:
        return self.outer(F.silu(self.inner(sinusoids(1000 * t, self.waves).to(self.inner.weight.dtype))))


def sinusoids(x: Tensor, width: int) -> Tensor:
    """Float[..., width]: cosines, then sines, of x at rates from 1 down to 1 / 10000 (2006.11239)."""
    half = width // 2
    rate = torch.exp(-torch.log(torch.tensor(10000.0)) * torch.arange(half, device=x.device) / half)
    angle = x[..., None].float() * rate
    return torch.cat([angle.cos(), angle.sin()], -1)


def per_column(t: Tensor, columns: int) -> Tensor:
    """Times for `columns` network columns, Float[B, 1] or [B, columns]; a clean half behind the L of `t` is at 0."""
    return t if t.shape[1] in (1, columns) else F.pad(t, (0, columns - t.shape[1]))


def picked(x: Tensor, rows: Tensor) -> Tensor:
    """Float[n, D]: the vectors `rows` of Float[B, L, D], counted through both."""
    return x.reshape(-1, x.shape[-1]).index_select(0, rows)


def rates(width: int, base: float = 10000.0) -> Tensor:
    """Float[width / 2]: angles per column of the pairs of a head of `width`, from 1 down to almost 1 / base."""
    return base ** (-torch.arange(0, width, 2).float() / width)


def turns(positions: Tensor, rate: Tensor) -> Tensor:
    """Float[2, (B,) 1, N, width / 2]: cosines and sines of each position's angles."""
    angle = positions[..., None].float() * rate.to(positions.device)
    if positions.dim() == 2:
        angle = angle[:, None]
    return torch.stack([angle.cos(), angle.sin()])


def _leaning(shape: TransformerConfig) -> Tensor:
    """Float[3 width]: biases of queries and keys whose rotated products are largest at each head's offset."""
    width = shape.width // shape.heads
    rate = rates(width, shape.base)
    offset = torch.tensor([shape.offsets[head % len(shape.offsets)] for head in range(shape.heads)])
    angle = offset[:, None] * rate
    q = shape.lean * torch.cat([angle.cos(), angle.sin()], -1)
    k = shape.lean * torch.cat([torch.ones_like(angle), torch.zeros_like(angle)], -1)
    return torch.cat([q.flatten(), k.flatten(), torch.zeros(shape.width)])


def _joined(x: Tensor) -> Tensor:
    return x.transpose(1, 2).flatten(2)
