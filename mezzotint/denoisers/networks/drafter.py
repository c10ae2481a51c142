"""A light block-diffusion drafter that reads the residual stream of a causal network (after DFlash, arXiv 2602.06036).

Rows are of two kinds, numbered by the position t they stand at; row t predicts token t + 2, as token t + 1 is known:

* a *context* row holds hidden states of the network at t ("taps", its residual stream after a few layers) and token
  t + 1; it sees earlier context rows;
* a *block* row holds token t + 1 where it is already decided and a learned [MASK] where it is not, and no taps; it sees
  the context up to its anchor and, both ways, the rows of its own block.

So the anchor's context row proposes the first token of a draft and the block rows the following ones, all from one
pass.  A small recurrent head then lets each drafted token see the one before it.  Embedding and output head are the
frozen ones of the causal network, the head cut to the most frequent ids and those that the context has met.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mezzotint.denoisers.draft_network import DrafterShape


class RMSNorm(nn.Module):
    """x / rms(x) * weight over the last dimension (1910.07467, eq. 4): Float[..., D] -> Float[..., D]."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, (x.shape[-1],), self.weight, self.eps)


class DrafterLayer(nn.Module):
    """Pre-norm attention and SwiGLU, matrices as the native kernels want them: q, k, v in one.

    Rows Float[B, R, width] that see each other as Bool[B, 1, R, R] says -> Float[B, R, width].
    """

    def __init__(self, s: DrafterShape, dropout: float = 0.0) -> None:
        super().__init__()
        self.shape, self.dropout = s, dropout
        self.attention_norm, self.mlp_norm = RMSNorm(s.width, s.eps), RMSNorm(s.width, s.eps)
        self.qkv = nn.Linear(s.width, (s.heads + 2 * s.kv_heads) * s.head_dim, bias=False)
        self.out = nn.Linear(s.heads * s.head_dim, s.width, bias=False)
        self.gate = nn.Linear(s.width, s.hidden, bias=False)
        self.up = nn.Linear(s.width, s.hidden, bias=False)
        self.down = nn.Linear(s.hidden, s.width, bias=False)

    def forward(self, x: Tensor, rotation: tuple[Tensor, Tensor], sees: Tensor) -> Tensor:
        s = self.shape
        rows = self.qkv(self.attention_norm(x)).unflatten(-1, (-1, s.head_dim)).transpose(-2, -3)
        q, k, v = rows.split([s.heads, s.kv_heads, s.kv_heads], dim=-3)
        q, k = _rotate(q, rotation), _rotate(k, rotation)
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=sees, enable_gqa=True)
        x = x + self._dropped(self.out(mixed.transpose(-2, -3).flatten(-2)))
        y = self.mlp_norm(x)
        return x + self._dropped(self.down(F.silu(self.gate(y)) * self.up(y)))

    def _dropped(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.dropout, self.training)


class Drafter(nn.Module):
    """The trained part of a hybrid.

    Args:
        shape: sizes.
        embedding: Float[V, width], the causal network's; frozen and not saved with the drafter.
        final_norm: Float[width], weight of its last norm; where the drafter's own begins.
        ids: Long[D], the ids that may always be drafted.
        dropout: share of what rows are made of, and of what layers add to them, that is left out while training; a
            few million numbers learn some hundred thousand tokens by heart otherwise.
    """

    embedding: Tensor
    ids: Tensor
    head: Tensor

    def __init__(
        self, shape: DrafterShape, embedding: Tensor, final_norm: Tensor, ids: Tensor, dropout: float = 0.0
    ) -> None:
        super().__init__()
        s = self.shape = shape
        self.dropout = dropout
        self.register_buffer("embedding", embedding, persistent=False)
        self.register_buffer("ids", ids)
        self.register_buffer("head", embedding[ids].contiguous(), persistent=False)
        self.tap_norms = nn.ModuleList(RMSNorm(s.width, s.eps) for _ in s.taps)
        self.fuse_taps = nn.Linear(len(s.taps) * s.width, s.width, bias=False)
        self.fuse_token = nn.Linear(s.width, s.width, bias=False)
        self.blank = nn.Parameter(torch.zeros(s.width))
        self.mask = nn.Parameter(torch.zeros(s.width))
        self.layers = nn.ModuleList(DrafterLayer(s, dropout) for _ in range(s.layers))
        self.norm = RMSNorm(s.width, s.eps)
        self.mix_in = nn.Linear(3 * s.width, s.mixer, bias=False)
        self.mix_out = nn.Linear(s.mixer, s.width, bias=False)
        self._initialise(final_norm)

    @torch.no_grad()
    def _initialise(self, final_norm: Tensor) -> None:
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=module.in_features**-0.5)
        for layer in self.modules():
            if isinstance(layer, DrafterLayer):
                layer.out.weight.mul_(0.3)
                layer.down.weight.mul_(0.3)
        self.mix_out.weight.zero_()
        self.norm.weight.copy_(final_norm)
        nn.init.normal_(self.mask, std=1.0)
        nn.init.normal_(self.blank, std=0.3)

    def token_part(self, tokens: Tensor) -> Tensor:
        """Normalised embeddings, Float[..., width]."""
        return F.rms_norm(self.embedding[tokens], (self.shape.width,), None, self.shape.eps)

    def context_rows(self, taps: Tensor, following: Tensor) -> Tensor:
        """Float[..., taps, width], Long[...] next tokens -> Float[..., width]."""
        normed = torch.cat([norm(taps[..., i, :]) for i, norm in enumerate(self.tap_norms)], -1)
        return self.fuse_taps(self._dropped(normed)) + self.fuse_token(self._dropped(self.token_part(following)))

    def block_rows(self, following: Tensor, known: Tensor) -> Tensor:
        """Long[...] next tokens, Bool[...] where they are decided -> Float[..., width]."""
        token = torch.where(known[..., None], self.token_part(following), self.mask)
        return self.blank + self.fuse_token(self._dropped(token))

    def trunk(self, x: Tensor, positions: Tensor, sees: Tensor) -> Tensor:
        """Rows Float[B, R, width], Long[B, R], Bool[B, R, R] -> Float[B, R, width]."""
        rotation = _rotation(positions, self.shape)
        for layer in self.layers:
            x = layer(x, rotation, sees[:, None])
        return x

    def advance(self, rows: Tensor, previous: Tensor, state: Tensor) -> Tensor:
        """State of the next drafted token: its row, the token drafted before it, and the state that drafted that one.

        Float[..., width], Long[...], Float[..., width] -> Float[..., width].
        """
        mixed = torch.cat([self.norm(rows), self.token_part(previous), self.norm(state)], -1)
        return rows + self.mix_out(F.silu(self.mix_in(self._dropped(mixed))))

    def logits(self, state: Tensor, others: Tensor | None = None) -> Tensor:
        """Float[..., width] -> Float[..., D] over `ids`, or Float[..., D + E] over them and `others`, Long[E]."""
        head = self.head if others is None else torch.cat([self.head, self.embedding[others]])
        return F.linear(self.norm(state), head)

    def _dropped(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.dropout, self.training)


def sees(positions: Tensor, anchors: Tensor, context: int, window: int) -> Tensor:
    """Bool[B, R, R]: who sees whom, for `context` context rows followed by block rows.

    Context up to the row's own anchor and inside its window; block rows of the same anchor both ways.
    """
    column = torch.arange(positions.shape[1], device=positions.device)
    is_block = column >= context
    distance = positions[:, :, None] - positions[:, None, :]
    to_context = ~is_block & (positions[:, None, :] <= anchors[:, :, None]) & (distance < window)
    same = is_block[:, None] & is_block & (anchors[:, :, None] == anchors[:, None, :])
    return to_context | same


def _rotation(positions: Tensor, s: DrafterShape) -> tuple[Tensor, Tensor]:
    rate = s.theta ** (-torch.arange(0, s.head_dim, 2, device=positions.device, dtype=torch.float64) / s.head_dim)
    angle = (positions[:, None, :, None].double() * rate).float()
    return angle.cos(), angle.sin()


def _rotate(x: Tensor, rotation: tuple[Tensor, Tensor]) -> Tensor:
    """Rotary embedding (2104.09864), halves convention."""
    cosine, sine = rotation
    a, b = x.chunk(2, -1)
    return torch.cat([a * cosine - b * sine, b * cosine + a * sine], -1)
