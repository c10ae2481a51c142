"""GPT-2's network in plain torch: LayerNorm, biases, learned positions, a GELU feed-forward; DiffuGPT is this.

Which columns see which is an argument, as for `Decoder`, whose calls it shares.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mezzotint.denoisers.layers.kv_cache import KVCache, appended, fitting
from mezzotint.denoisers.networks.llama import Output, causal
from mezzotint.denoisers.published.fill_weights import Piece
from mezzotint.errors import CapacityError


@dataclass(frozen=True, kw_only=True)
class GPT2Config:
    """Shape of a GPT-2."""

    vocab: int
    width: int
    inner: int
    layers: int
    heads: int
    max_positions: int
    norm_eps: float = 1e-5
    tied: bool = True


class GPT2(nn.Module):
    """Tokens Long[B, N], or vectors Float[B, N, D], -> hidden Float[B, N, D] and logits Float[B, N, V].

    Parameters are `embed`, `place`, `layers.i.{ln1,q,k,v,o,ln2,up,down}`, `norm`, `head`.
    """

    def __init__(self, config: GPT2Config) -> None:
        super().__init__()
        self.config = config
        self.embed = nn.Embedding(config.vocab, config.width)
        self.place = nn.Embedding(config.max_positions, config.width)
        self.layers = nn.ModuleList(_Layer(config) for _ in range(config.layers))
        self.norm = nn.LayerNorm(config.width, config.norm_eps)
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
        """One pass over N columns, after S columns in the cache; arguments as for `Decoder`.

        Raises:
            CapacityError: the cache cannot hold the new columns, or there is no position for them.
        """
        x = tokens if tokens.is_floating_point() else self.embed(tokens)
        start, count = (0 if cache is None else cache.length), x.shape[1]
        if start + count > self.config.max_positions:
            raise CapacityError(
                f"cannot read {start + count} columns: this model has positions for {self.config.max_positions}"
            )
        if positions is None:
            positions = torch.arange(start, start + count, device=x.device)
        if attend is None and count > 1:
            attend = causal(count, start + count, x.device)
        elif attend is not None and attend.numel() == 1:
            attend = None
        x = x + self.place(positions)
        tapped = {0: x}
        for depth, layer in enumerate(self.layers):
            x = layer(x, attend, None if cache is None else cache.layer(depth, count))
            if depth + 1 in taps:
                tapped[depth + 1] = x
        if cache is not None:
            cache.length += count
        hidden = self.norm(x)
        return Output(hidden, self.head(hidden) if head else None, tuple(tapped[depth] for depth in taps))

    def cache(self, batch: int, capacity: int) -> KVCache:
        """An empty cache for `capacity` columns.

        Raises:
            CapacityError: more columns than the model has positions.
        """
        shape, weight = self.config, self.embed.weight
        cells = (shape.layers, batch, shape.heads, fitting(capacity, shape.max_positions), shape.width // shape.heads)
        return KVCache(cells, dtype=weight.dtype, device=weight.device)


class _Layer(nn.Module):
    def __init__(self, config: GPT2Config) -> None:
        super().__init__()
        width, inner = config.width, config.inner
        self.heads = config.heads
        self.ln1, self.ln2 = nn.LayerNorm(width, config.norm_eps), nn.LayerNorm(width, config.norm_eps)
        self.q, self.k, self.v, self.o = (nn.Linear(width, width) for _ in range(4))
        self.up, self.down = nn.Linear(width, inner), nn.Linear(inner, width)

    def forward(self, x: Tensor, attend: Tensor | None, cache: tuple[Tensor, Tensor, int] | None) -> Tensor:
        y = self.ln1(x)
        q, k, v = (part(y).unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in (self.q, self.k, self.v))
        if cache is not None:
            k, v = appended(cache, k, v)
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=attend)
        x = x + self.o(y.transpose(1, 2).flatten(2))
        return x + self.down(F.gelu(self.up(self.ln2(x)), approximate="tanh"))


INSIDE = {"ln1": "ln_1", "o": "attn.c_proj", "ln2": "ln_2", "up": "mlp.c_fc", "down": "mlp.c_proj"}
JOINED = ("q", "k", "v")
"""Parts of one stored matrix, in this order."""


@dataclass(frozen=True)
class GPT2Names:
    """DiffuGPT's names: GPT-2's inside `denoise_model`, the embedding outside; matrices are stored [in, out].

    The embedding of a tied checkpoint is stored under either of two names.
    """

    embed: str
    head: str

    def __call__(self, ours: str, shape: tuple[int, ...]) -> list[Piece]:
        """The pieces that fill a parameter."""
        place, _, leaf = ours.rpartition(".")
        whole = {"embed": self.embed, "head": self.head, "place": "denoise_model.wpe", "norm": "denoise_model.ln_f"}
        if place in whole:
            return [Piece(f"{whole[place]}.{leaf}", shape)]
        _, depth, module = place.split(".")
        prefix, width = f"denoise_model.h.{depth}.", shape[0]
        if module in JOINED:
            at = JOINED.index(module)
            stored = (shape[1], 3 * width) if len(shape) == 2 else (3 * width,)
            rows = (at * width, (at + 1) * width)
            return [Piece(f"{prefix}attn.c_attn.{leaf}", stored, rows, flipped=len(shape) == 2)]
        return [Piece(f"{prefix}{INSIDE[module]}.{leaf}", shape[::-1], flipped=leaf == "weight" and len(shape) == 2)]
