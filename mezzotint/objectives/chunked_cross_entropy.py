"""Cross-entropy of the columns that count, without their logits ever standing in memory at once.

The head and its softmax over V tokens are most of a small network's work and nearly all of its memory.  So the columns
that no loss reads are left out, and the others pass in chunks: a chunk's logits become its loss and its gradient at
once and are dropped.  Nothing is computed twice.
"""

from typing import Any, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mezzotint.layouts import Inputs

CHUNK = 256


@runtime_checkable
class Split(Protocol):
    """A network that can be asked for single columns, before its head."""

    head: nn.Linear

    def hidden_at(self, inputs: Inputs, t: Tensor | None, rows: Tensor) -> Tensor:
        """Float[n, D] of the columns Long[n] `rows`, counted through [B, L]."""
        ...


def cross_entropy(
    h: Tensor, head: nn.Linear, wanted: Tensor, weight: Tensor, never: int | None
) -> tuple[Tensor, Tensor]:
    """The weighted cross-entropy of some columns.

    Args:
        h: Float[n, D], what the head reads.
        head: D -> V.
        wanted: Long[n], the right tokens.
        weight: Float[n], a constant.
        never: a token that gets no probability, [MASK].

    Returns:
        The scalar sum of weight times nats, which can be differentiated once, and the nats themselves, Float[n],
        which cannot.
    """
    return _CrossEntropy.apply(h, head.weight, head.bias, wanted, weight, never)  # pyright: ignore[reportReturnType]


class _CrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, h: Tensor, w: Tensor, b: Tensor | None, wanted: Tensor, weight: Tensor, never: int | None
    ) -> tuple[Tensor, Tensor]:
        needed = any(ctx.needs_input_grad)
        nats = torch.empty(h.shape[0], dtype=torch.promote_types(h.dtype, torch.float32), device=h.device)
        dtype = torch.get_autocast_dtype(h.device.type) if torch.is_autocast_enabled(h.device.type) else h.dtype
        matrix = w.to(dtype)
        dh = torch.empty_like(h) if needed else None
        dw = torch.zeros_like(w) if ctx.needs_input_grad[1] else None
        db = torch.zeros_like(b) if needed and b is not None else None
        for part in range(0, h.shape[0], CHUNK):
            rows = slice(part, part + CHUNK)
            x, y = h[rows].to(dtype), wanted[rows, None]
            z = F.linear(x, matrix, None if b is None else b.to(dtype)).to(nats.dtype)
            if never is not None:
                z[:, never] = -torch.inf
            z -= z.amax(1, keepdim=True)
            right = z.gather(1, y)
            odds = z.exp_()
            total = odds.sum(1, keepdim=True)
            nats[rows] = (total.log() - right)[:, 0]
            if dh is not None:
                # the gradient of the nats is softmax minus one-hot
                share = weight[rows, None].to(odds.dtype)
                odds *= share / total
                odds.scatter_add_(1, y, -share)
                slope = odds.to(dtype)
                dh[rows] = slope @ matrix
                if dw is not None:
                    dw.addmm_(slope.T.to(dw.dtype), x.to(dw.dtype))
                if db is not None:
                    db += odds.sum(0)
        ctx.save_for_backward(dh, dw, db)
        ctx.mark_non_differentiable(nats)
        return (nats * weight).sum(), nats

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        scale = grads[0]
        dh, dw, db = ctx.saved_tensors
        return dh * scale, None if dw is None else dw * scale, None if db is None else db * scale, None, None, None
