"""A small modern transformer for training from scratch: pre-norm, RoPE, RMSNorm, SwiGLU, any attention mask.

RoPE 2104.09864, RMSNorm 1910.07467, SwiGLU 2002.05202.
"""

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from mezzotint.config import config
from mezzotint.errors import ConfigError
from mezzotint.layouts import Inputs


@config
class TransformerConfig:
    """The shape of a Transformer."""

    width: int = Field(default=256, gt=0)
    layers: int = Field(default=4, gt=0)
    heads: int = Field(default=4, gt=0)
    """Must divide `width` into even parts."""
    hidden: int | None = Field(default=None, gt=0)
    """Inner width of SwiGLU; null: 8/3 of `width`, rounded up to 64."""
    dropout: float = Field(default=0.0, ge=0, lt=1)

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
    """Inputs -> logits Float[B, N, V]; needs no time, as the number of masks tells it."""

    lookback = 0

    def __init__(self, shape: TransformerConfig, vocab: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(vocab, shape.width)
        self.blocks = nn.ModuleList([_Block(shape) for _ in range(shape.layers)])
        self.norm = nn.RMSNorm(shape.width)
        self.head = nn.Linear(shape.width, vocab, bias=False)
        self.head_width = shape.width // shape.heads
        nn.init.normal_(self.embed.weight, std=0.02)
        nn.init.zeros_(self.head.weight)

    def forward(self, inputs: Inputs, t: Tensor | None = None) -> Tensor:
        """Logits for every column of `inputs`, whose `x` are tokens."""
        turn = _turns(inputs.positions, self.head_width)
        seen = inputs.attend.dense(inputs.x.device)
        h = self.embed(inputs.x)
        for block in self.blocks:
            h = block(h, turn, seen)
        return self.head(self.norm(h))


class _Block(nn.Module):
    def __init__(self, shape: TransformerConfig) -> None:
        super().__init__()
        width = shape.width
        hidden = shape.hidden or -(-8 * width // (3 * 64)) * 64
        self.heads, self.dropout = shape.heads, shape.dropout
        self.before_attention, self.before_mlp = nn.RMSNorm(width), nn.RMSNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width, bias=False)
        self.gate_up, self.down = nn.Linear(width, 2 * hidden, bias=False), nn.Linear(hidden, width, bias=False)
        for layer in (self.qkv, self.gate_up):
            nn.init.normal_(layer.weight, std=width**-0.5)
        for layer in (self.out, self.down):
            nn.init.normal_(layer.weight, std=(2 * shape.layers * layer.in_features) ** -0.5)

    def forward(self, h: Tensor, turn: Tensor, seen: Tensor | None) -> Tensor:
        batch, columns, width = h.shape
        qkv = self.qkv(self.before_attention(h)).view(batch, columns, 3, self.heads, -1)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(_rotate(q, turn), _rotate(k, turn), v, attn_mask=seen)
        h = h + self._drop(self.out(mixed.transpose(1, 2).reshape(batch, columns, width)))
        gate, up = self.gate_up(self.before_mlp(h)).chunk(2, -1)
        return h + self._drop(self.down(F.silu(gate) * up))

    def _drop(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.dropout, self.training) if self.dropout else x


def _turns(positions: Tensor, width: int) -> Tensor:
    """Float[2, (B,) 1, N, width / 2]: cosines and sines of each position's angles."""
    rate = 10000.0 ** (-torch.arange(0, width, 2, device=positions.device) / width)
    angle = positions[..., None].float() * rate
    if positions.dim() == 2:
        angle = angle[:, None]
    return torch.stack([angle.cos(), angle.sin()])


def _rotate(x: Tensor, turn: Tensor) -> Tensor:
    cos, sin = turn.to(x.dtype)
    one, two = x.chunk(2, -1)
    return torch.cat([one * cos - two * sin, one * sin + two * cos], -1)
