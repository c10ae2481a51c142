"""The decoder of the Llama, SmolLM2, Qwen2 and Qwen3 families in plain torch: the reference for every other backend.

Pre-norm blocks with RMSNorm, rotary positions (RoFormer, 2104.09864, sec. 3.4.2, halves rotated as in Hugging Face
layouts), grouped key/value heads (2305.13245), a SwiGLU feed-forward (2002.05202, eq. 6), optional bias on q, k, v
(Qwen2), RMSNorm per head on q and k (Qwen3), and a mixture of experts in place of the feed-forward (`moe.py`).  Which
columns see which is an argument, so the same weights run causally, bidirectionally or block by block: LLaDA, Dream,
DiffuLLaMA, SDAR, LLaDA2, RND1 and WeDLM are this network.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mezzotint.denoisers.layers.kv_cache import KVCache, appended, fitting
from mezzotint.denoisers.layers.moe import Experts, ExpertsConfig
from mezzotint.denoisers.native import dense
from mezzotint.denoisers.native.small_networks import Parts

EVERYTHING = torch.ones(1, 1, dtype=torch.bool)
"""The mask under which every column reads every other."""


@dataclass(frozen=True, kw_only=True)
class DecoderConfig:
    """Shape of a decoder."""

    vocab: int
    width: int
    inner: int
    """Width of the feed-forward network."""
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    max_positions: int
    rope_theta: float = 10000.0
    norm_eps: float = 1e-6
    tied: bool = True
    """Whether the head is the embedding."""
    qkv_bias: bool = False
    qk_norm: bool = False
    turned: int | None = None
    """Leading components of a head that turn with the position; None is all of them."""
    wide_rotation: bool = False
    """Turn heads in 32 bits, whatever the type of the weights."""
    experts: ExpertsConfig | None = None
    """Experts in place of the feed-forward, in every layer that is not in `dense`."""
    dense: tuple[int, ...] = ()


@dataclass(slots=True)
class Output:
    """What one pass returns."""

    hidden: Tensor
    """Float[B, N, E] after the final norm."""
    logits: Tensor | None
    """Float[B, N, V]; None if the head was not asked for."""
    taps: tuple[Tensor, ...]
    """Float[B, N, E] each: the residual stream after the layers asked for, in the order asked."""


class Decoder(nn.Module):
    """tokens -> logits.  Parameters are `embed`, `layers.i.{ln1,q,k,v,o,qn,kn,ln2,gate,up,down}`, `norm`, `head`."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.config = config
        self.embed = nn.Embedding(config.vocab, config.width)
        self.layers = nn.ModuleList(LlamaLayer(config, depth) for depth in range(config.layers))
        self.norm = RMSNorm(config.width, config.norm_eps)
        self.head = nn.Linear(config.width, config.vocab, bias=False)
        if config.tied:
            self.head.weight = self.embed.weight

    def forward(
        self,
        tokens: Tensor,
        positions: Tensor | None = None,
        attend: Tensor | None = None,
        cache: KVCache | None = None,
        taps: tuple[int, ...] = (),
        head: bool = True,
    ) -> Output:
        """One pass over N columns, after S columns already in the cache.

        Args:
            tokens: Long[B, N], or Float[B, N, E] to give the embeddings directly.
            positions: Long[N] or [B, N]; S, S + 1, ... if None.
            attend: Bool[..., N, S + N], True where a column (row) reads another; broadcast to [B, heads, N, S + N].
                None is causal, `EVERYTHING` lets every column read every other.  Every row needs at least one True.
            cache: its S columns are read, and the new N are appended; `cache.truncate` takes them back.
            taps: layer counts whose residual stream to return; n is the stream after n layers, before `norm`.
            head: whether to compute logits.

        Raises:
            CapacityError: the cache cannot hold the new columns.
        """
        x = tokens if tokens.is_floating_point() else self.embed(tokens)
        start, count = (0 if cache is None else cache.length), x.shape[1]
        if positions is None:
            positions = torch.arange(start, start + count, device=x.device)
        if attend is None and count > 1:
            attend = causal(count, start + count, x.device)
        elif attend is not None and attend.numel() == 1:
            attend = None  # one True for all is no mask, which the kernels are faster with
        turned = self.config.turned or self.config.head_dim
        kind = torch.float32 if self.config.wide_rotation else x.dtype
        rotation = rope(positions, turned, self.config.rope_theta, kind)
        tapped = {0: x} if 0 in taps else {}
        for depth, layer in enumerate(self.layers):
            x = layer(x, rotation, attend, None if cache is None else cache.layer(depth, count))
            if depth + 1 in taps:
                tapped[depth + 1] = x
        if cache is not None:
            cache.length += count
        hidden = self.norm(x)
        return Output(hidden, self.head(hidden) if head else None, tuple(tapped[depth] for depth in taps))

    def parts(self) -> Parts:
        """The network taken apart, for float32 kernels; only where nothing stands in its modules' places."""
        config = self.config
        turned = config.turned or config.head_dim
        shape = dense.DenseShape(
            config.width, config.inner, config.heads, config.kv_heads, config.head_dim, turned, config.norm_eps
        )
        layers = [layer.parts() for layer in self.layers if isinstance(layer, LlamaLayer)]
        rate = rates(turned, config.rope_theta, self.embed.weight.device)
        return Parts(shape, layers, self.norm.weight, self.head.weight, lambda at: at[:, None].float() * rate)

    def cache(self, batch: int, capacity: int) -> KVCache:
        """An empty cache for `capacity` columns, with this network's type and device.

        Raises:
            CapacityError: more columns than the model has positions.
        """
        shape, weight = self.config, self.embed.weight
        cells = (shape.layers, batch, shape.kv_heads, fitting(capacity, shape.max_positions), shape.head_dim)
        return KVCache(cells, dtype=weight.dtype, device=weight.device)


class LlamaLayer(nn.Module):
    """Attention and feed-forward, each on a normalised copy of the residual stream."""

    def __init__(self, config: DecoderConfig, depth: int) -> None:
        super().__init__()
        width, dim = config.width, config.head_dim
        self.heads, self.kv_heads, self.dim = config.heads, config.kv_heads, dim
        self.ln1 = RMSNorm(width, config.norm_eps)
        self.q = nn.Linear(width, config.heads * dim, bias=config.qkv_bias)
        self.k = nn.Linear(width, config.kv_heads * dim, bias=config.qkv_bias)
        self.v = nn.Linear(width, config.kv_heads * dim, bias=config.qkv_bias)
        self.o = nn.Linear(config.heads * dim, width, bias=False)
        self.qn = RMSNorm(dim, config.norm_eps) if config.qk_norm else nn.Identity()
        self.kn = RMSNorm(dim, config.norm_eps) if config.qk_norm else nn.Identity()
        self.ln2 = RMSNorm(width, config.norm_eps)
        self.experts = None
        if config.experts is not None and depth not in config.dense:
            self.experts = Experts(config.experts, width)
            return
        self.gate = nn.Linear(width, config.inner, bias=False)
        self.up = nn.Linear(width, config.inner, bias=False)
        self.down = nn.Linear(config.inner, width, bias=False)

    def forward(
        self,
        x: Tensor,
        rotation: tuple[Tensor, Tensor],
        attend: Tensor | None,
        cache: tuple[Tensor, Tensor, int] | None,
    ) -> Tensor:
        """Float[B, N, E] -> Float[B, N, E]; writes its keys and values into the cache."""
        x = x + self.attention(self.ln1(x), rotation, attend, cache)
        y = self.ln2(x)
        if self.experts is not None:
            return x + self.experts(y)
        return x + self.down(F.silu(self.gate(y)) * self.up(y))

    def parts(self) -> dense.DenseLayer:
        """The layer's parameters by name."""
        kv_bias = None if self.k.bias is None else torch.cat([self.k.bias, self.v.bias])
        head_norms = [norm.weight if isinstance(norm, RMSNorm) else None for norm in (self.qn, self.kn)]
        return dense.DenseLayer(
            self.ln1.weight,
            self.ln2.weight,
            self.q.weight,
            torch.cat([self.k.weight, self.v.weight]),
            self.o.weight,
            torch.cat([self.gate.weight, self.up.weight]),
            self.down.weight,
            self.q.bias,
            kv_bias,
            *head_norms,
        )

    def attention(
        self,
        x: Tensor,
        rotation: tuple[Tensor, Tensor],
        attend: Tensor | None,
        cache: tuple[Tensor, Tensor, int] | None,
    ) -> Tensor:
        """Grouped-query attention of the columns x, Float[B, N, D], over the cached and the new ones: Float[B, N, D].

        Args:
            rotation: cosines and sines of the new columns.
            attend: which new column sees which column, a mask that broadcasts; None shows everything.
            cache: keys, values and how many columns they hold.
        """
        batch, count, _ = x.shape
        q = rotated(self.qn(self.q(x).view(batch, count, self.heads, self.dim)).transpose(1, 2), rotation)
        k = rotated(self.kn(self.k(x).view(batch, count, self.kv_heads, self.dim)).transpose(1, 2), rotation)
        v = self.v(x).view(batch, count, self.kv_heads, self.dim).transpose(1, 2)
        if cache is not None:
            k, v = appended(cache, k, v)
        group = self.heads // self.kv_heads
        if group > 1:
            k, v = k.repeat_interleave(group, 1), v.repeat_interleave(group, 1)
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=attend)
        return self.o(y.transpose(1, 2).reshape(batch, count, self.heads * self.dim))


class RMSNorm(nn.Module):
    """x / rms(x) * weight over the last dimension, with the mean square in 32 bits (1910.07467, eq. 4).

    Float[..., D] -> Float[..., D].
    """

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        wide = x.float()
        return self.weight * (wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + self.eps)).to(x.dtype)


MODULES = (Decoder, LlamaLayer, RMSNorm, nn.ModuleList, nn.Embedding, nn.Linear, nn.Identity)
"""What a plain decoder, without experts or adapters, is made of."""


def causal(rows: int, columns: int, device: torch.device) -> Tensor:
    """Bool[rows, columns]: the last `rows` columns read themselves and everything to their left."""
    return torch.ones(rows, columns, dtype=torch.bool, device=device).tril(columns - rows)


def rope(positions: Tensor, dim: int, theta: float, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Cosine and sine for each position, Float[1 or B, 1, N, dim]; angles in 32 bits (2104.09864, eq. 15)."""
    angles = positions[..., None].float() * rates(dim, theta, positions.device)
    angles = torch.cat([angles, angles], -1)
    angles = angles[None, None] if positions.dim() == 1 else angles[:, None]
    return angles.cos().to(dtype), angles.sin().to(dtype)


def rates(dim: int, theta: float, device: torch.device) -> Tensor:
    """Float[dim / 2]: the angle of each pair per position (2104.09864, eq. 15)."""
    exponent = torch.arange(0, dim, 2, dtype=torch.int64, device=device).float() / dim
    return 1.0 / theta**exponent


def rotated(x: Tensor, rotation: tuple[Tensor, Tensor]) -> Tensor:
    """Rotate the pairs (i, i + dim / 2) of every head by its column's angle; x is Float[B, heads, N, dim].

    An angle for fewer components than a head has leaves the others as they are.
    """
    cos, sin = rotation
    if cos.shape[-1] < x.shape[-1]:
        turned, still = x.split([cos.shape[-1], x.shape[-1] - cos.shape[-1]], -1)
        return torch.cat([rotated(turned, rotation), still], -1)
    left, right = x.chunk(2, -1)
    return (x * cos + torch.cat([-right, left], -1) * sin).to(x.dtype)
