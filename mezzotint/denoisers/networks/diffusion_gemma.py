"""DiffusionGemma's network: Gemma's layers, once as a causal reader of text and once as a denoiser of a canvas.

Both share their weights but for one number per layer.  The reader stores keys and values; the denoiser sees them and
its whole canvas, writes nothing, and reads its last prediction for the canvas (self-conditioning, 2208.04202).
Layers see a window or everything; every layer adds a feed-forward and experts, each under its own norms.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mezzotint.denoisers.layers.kv_cache import LayeredCache, appended, fitting
from mezzotint.denoisers.layers.moe import ExpertStack, Softmax, mixed
from mezzotint.denoisers.networks.llama import rotated


@dataclass(frozen=True, kw_only=True)
class AttentionSettings:
    """What a layer's attention looks like; the layers of a network have one of two."""

    kv_heads: int
    head_dim: int
    theta: float
    turned: float = 1.0
    """Share of a head's pairs that turn; the others keep still, and angles are counted over the whole head."""
    window: int | None = None
    """Columns that a reader sees, itself included; None is all.  Without a window, keys are the values too."""


@dataclass(frozen=True, kw_only=True)
class GemmaConfig:
    """Shape of a DiffusionGemma."""

    vocab: int
    width: int
    inner: int
    heads: int
    experts: int
    chosen: int
    expert_inner: int
    layers: tuple[AttentionSettings, ...]
    max_positions: int
    norm_eps: float = 1e-6
    cap: float
    """Logits stay within + and - this."""


class DiffusionGemma(nn.Module):
    """A canvas of tokens -> logits, behind text that was read before."""

    lookback = 0

    def __init__(self, config: GemmaConfig) -> None:
        super().__init__()
        self.config = config
        self.embed = nn.Embedding(config.vocab, config.width)
        self.layers = nn.ModuleList(_Layer(config, sight) for sight in config.layers)
        self.norm = Norm(config.width, config.norm_eps)
        self.condition_norm = Norm(config.width, config.norm_eps)
        self.condition = _Gelu(config.width, config.inner)

    def read(self, tokens: Tensor, cache: LayeredCache, valid: Tensor | None = None) -> Tensor:
        """Read text causally and keep it; Float[B, N, width], after the final norm.

        Args:
            tokens: Long[B, N], behind the S columns of the cache.
            cache: the new columns are appended.
            valid: Bool[B, S + N], False for padding; positions are counted with it.

        Raises:
            CapacityError: the cache cannot hold the new columns.
        """
        start, count = cache.length, tokens.shape[1]
        query = torch.arange(start, start + count, device=tokens.device)[:, None]
        key = torch.arange(start + count, device=tokens.device)
        x = self._embedded(tokens)
        for depth, layer in enumerate(self._stack()):
            seen = key <= query
            if layer.sight.window is not None:
                seen = seen & (key > query - layer.sight.window)
            if valid is not None:
                # a column of padding sees itself, so that its numbers stay finite
                seen = seen & valid[:, None, None] | (key == query)
            x = layer(x, layer.rotation(query[:, 0], x.dtype), seen, cache.layer(depth, count), keep=True)
        cache.length += count
        return self.norm(x)

    def forward(
        self,
        canvas: Tensor,
        cache: LayeredCache,
        before: Tensor | None = None,
        told: Tensor | None = None,
        valid: Tensor | None = None,
    ) -> Tensor:
        """Float[B, N, V]: row i predicts column i of the canvas, in 32 bits and within the cap.

        Args:
            canvas: Long[B, N] tokens.
            cache: the text before the canvas, which is not changed.
            before: Float[B, N, V], the logits of the step before as its sampler used them; None at the first step.
            told: Bool[B], rows that are told of `before`; None is all.
            valid: Bool[B, S], False for padding in the text.
        """
        return self.head(self.hidden(canvas, cache, before, told, valid))

    def hidden(
        self,
        canvas: Tensor,
        cache: LayeredCache,
        before: Tensor | None = None,
        told: Tensor | None = None,
        valid: Tensor | None = None,
        taps: list[Tensor] | None = None,
    ) -> Tensor:
        """Float[B, N, width], ready for `head`; the stream before every layer is appended to `taps`."""
        start, count = cache.length, canvas.shape[1]
        positions = torch.arange(start, start + count, device=canvas.device)
        x = self.conditioned(canvas, before, told)
        for depth, layer in enumerate(self._stack()):
            if taps is not None:
                taps.append(x)
            keys, values, _ = cache.layer(depth)
            first = 0 if layer.sight.window is None else max(0, start - layer.sight.window + 1)
            kept = keys[:, :, first:start], values[:, :, first:start]
            seen = None
            if valid is not None:
                seen = F.pad(valid[:, first:start], (0, count), value=True)[:, None, None]
            x = layer(x, layer.rotation(positions, x.dtype), seen, (*kept, start - first), keep=False)
        return self.norm(x)

    def head(self, h: Tensor) -> Tensor:
        """Float[..., V]: logits of Float[..., width], softly capped (Gemma 2, 2408.00118, sec. 2)."""
        raw = F.linear(h, self.embed.weight).float()
        return torch.tanh(raw / self.config.cap) * self.config.cap

    def conditioned(self, canvas: Tensor, before: Tensor | None, told: Tensor | None) -> Tensor:
        """Float[B, N, width]: embeddings of the canvas and of its last prediction, normalised together."""
        x = self._embedded(canvas)
        soft = torch.zeros_like(x)
        if before is not None:
            p = before.softmax(-1, dtype=torch.float32).to(self.embed.weight.dtype)
            soft = (p @ self.embed.weight) * self._scale(x)
            if told is not None:
                soft = soft * told.to(soft.dtype)[:, None, None]
        return unit(x + self.condition(self.condition_norm(soft)), self.config.norm_eps)

    def memory(self, rows: int, columns: int) -> LayeredCache:
        """Room for the keys and values of `columns` columns.

        Raises:
            CapacityError: more columns than the network has positions.
        """
        room = fitting(columns, self.config.max_positions)
        shapes = [(rows, layer.kv_heads, room, layer.head_dim) for layer in self.config.layers]
        return LayeredCache(shapes, self.embed.weight)

    def _embedded(self, tokens: Tensor) -> Tensor:
        x = self.embed(tokens)
        return x * self._scale(x)

    def _scale(self, like: Tensor) -> Tensor:
        return torch.tensor(self.config.width**0.5, dtype=like.dtype, device=like.device)

    def _stack(self) -> list["_Layer"]:
        return [layer for layer in self.layers if isinstance(layer, _Layer)]


class _Layer(nn.Module):
    def __init__(self, config: GemmaConfig, sight: AttentionSettings) -> None:
        super().__init__()
        width, dim, eps = config.width, sight.head_dim, config.norm_eps
        self.sight, self.heads, self.eps = sight, config.heads, eps
        self.router_rule = Softmax(config.chosen, renormalised=True)
        self.q = nn.Linear(width, config.heads * dim, bias=False)
        self.k = nn.Linear(width, sight.kv_heads * dim, bias=False)
        self.v = nn.Linear(width, sight.kv_heads * dim, bias=False) if sight.window is not None else None
        self.o = nn.Linear(config.heads * dim, width, bias=False)
        self.qn, self.kn = Norm(dim, eps), Norm(dim, eps)
        self.ln1, self.ln1_after = Norm(width, eps), Norm(width, eps)
        self.ln2, self.ln2_after = Norm(width, eps), Norm(width, eps)
        self.ln2_expert, self.ln2_dense_after, self.ln2_expert_after = (Norm(width, eps) for _ in range(3))
        self.dense = _Gelu(width, config.inner)
        self.router = nn.Linear(width, config.experts, bias=False)
        self.router_scale = nn.Parameter(torch.ones(width))
        self.expert_scale = nn.Parameter(torch.ones(config.experts))
        self.gate_up = ExpertStack(config.experts, 2 * config.expert_inner, width)
        self.down = ExpertStack(config.experts, width, config.expert_inner)
        self.scalar, self.reading_scalar = nn.Parameter(torch.ones(1)), nn.Parameter(torch.ones(1))

    def forward(
        self,
        x: Tensor,
        rotation: tuple[Tensor, Tensor],
        seen: Tensor | None,
        cache: tuple[Tensor, Tensor, int],
        keep: bool,
    ) -> Tensor:
        """Float[B, N, width]; `keep` is the reader, which writes its keys and values behind those of `cache`."""
        x = x + self.ln1_after(self._attended(self.ln1(x), rotation, seen, cache, keep))
        dense = self.ln2_dense_after(self.dense(self.ln2(x)))
        rows = x.flatten(0, 1)
        index, weight = self.route(rows)
        expert = mixed(self.ln2_expert(rows), index, weight.to(x.dtype), self.gate_up, self.down, gelu)
        x = x + self.ln2_after(dense + self.ln2_expert_after(expert.view(x.shape)))
        return x * (self.reading_scalar if keep else self.scalar)

    def route(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Long[n, k] experts and Float[n, k] weights of Float[n, width]."""
        x = unit(rows, self.eps) * self.router_scale * rows.shape[-1] ** -0.5
        index, weight = self.router_rule(self.router(x).float(), None)
        return index, weight * self.expert_scale[index]

    def rotation(self, positions: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Cosine and sine, Float[1, 1, N, dim]; pairs that keep still have angle 0."""
        dim = self.sight.head_dim
        pairs = int(self.sight.turned * dim // 2)
        rate = self.sight.theta ** -(torch.arange(0, 2 * pairs, 2, device=positions.device).float() / dim)
        angle = positions[:, None].float() * F.pad(rate, (0, dim // 2 - pairs))
        angle = torch.cat([angle, angle], -1)[None, None]
        return angle.cos().to(dtype), angle.sin().to(dtype)

    def _attended(
        self,
        x: Tensor,
        rotation: tuple[Tensor, Tensor],
        seen: Tensor | None,
        cache: tuple[Tensor, Tensor, int],
        keep: bool,
    ) -> Tensor:
        dim = self.sight.head_dim
        q, k = (part(x).unflatten(-1, (-1, dim)) for part in (self.q, self.k))
        v = k if self.v is None else self.v(x).unflatten(-1, (-1, dim))
        q, k = (rotated(norm(part).transpose(1, 2), rotation) for norm, part in ((self.qn, q), (self.kn, k)))
        v = unit(v, self.eps).transpose(1, 2)
        if keep:
            k, v = appended(cache, k, v)
        else:
            keys, values, _ = cache
            k, v = torch.cat([keys, k], 2), torch.cat([values, v], 2)
        group = self.heads // self.sight.kv_heads
        k, v = k.repeat_interleave(group, 1), v.repeat_interleave(group, 1)
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=seen, scale=1.0)
        return self.o(y.transpose(1, 2).flatten(2))


class _Gelu(nn.Module):
    """A gated feed-forward with GELU (2002.05202, sec. 2)."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.gate, self.up = nn.Linear(width, inner, bias=False), nn.Linear(width, inner, bias=False)
        self.down = nn.Linear(inner, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(gelu(self.gate(x)) * self.up(x))


class Norm(nn.Module):
    """RMSNorm that is cast back only after its weight (1910.07467, eq. 4)."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """Float[..., width] -> Float[..., width]."""
        return (unit(x.float(), self.eps) * self.weight.float()).to(x.dtype)


def unit(x: Tensor, eps: float) -> Tensor:
    """x / rms(x) over the last dimension, computed in 32 bits: Float[..., D] -> Float[..., D]."""
    wide = x.float()
    return (wide * (wide.square().mean(-1, keepdim=True) + eps).pow(-0.5)).to(x.dtype)


def gelu(x: Tensor) -> Tensor:
    """GELU by its hyperbolic tangent (1606.08415); any shape."""
    return F.gelu(x, approximate="tanh")
