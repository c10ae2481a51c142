"""Rotations, norms and gates with their gradients written out: fewer passes over memory than op by op.

Beside small matrices these passes are a fifth of a training step on a CPU.  Each equals the plain expression that its
docstring gives; tests hold values and gradients to it.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def rotate(x: Tensor, turn: Tensor) -> Tensor:
    """Float[B, heads, N, d] with the pairs (i, i + d / 2) turned by their column's angle (RoPE, 2104.09864, eq. 34).

    [a cos - b sin, a sin + b cos] for the halves [a, b] of x and `turn` = (cos, sin), Float[2, (B,) 1, N, d / 2].
    """
    if not _learning(x):
        return _turned(x, *turn.to(x.dtype))
    return _Rotate.apply(x, turn)  # pyright: ignore[reportReturnType]


class RMSNorm(nn.Module):
    """x / sqrt(mean(x^2) + eps) * weight over the last dimension, the mean in float32 (1910.07467, eq. 4).

    Float[..., D] -> Float[..., D].
    """

    def __init__(self, width: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.ones(width)), eps

    def forward(self, x: Tensor) -> Tensor:
        if not _learning(x, self.weight):
            return F.rms_norm(x, self.weight.shape, self.weight, self.eps)
        return _Norm.apply(x, self.weight, self.eps)  # pyright: ignore[reportReturnType]


def gated(x: Tensor) -> Tensor:
    """silu(a) b for the halves [a, b] of the last dimension (SwiGLU, 2002.05202): Float[..., 2 D] -> Float[..., D]."""
    if not _learning(x):
        a, b = x.chunk(2, -1)
        return F.silu(a) * b
    return _Gated.apply(x)  # pyright: ignore[reportReturnType]


def _learning(*tensors: Tensor) -> bool:
    """Whether gradients will be asked for; without them the plain operations are cheaper than a recorded one."""
    return torch.is_grad_enabled() and any(x.requires_grad for x in tensors)


class _Rotate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, turn: Tensor) -> Tensor:
        cos, sin = turn.to(x.dtype)
        ctx.save_for_backward(cos, sin)
        return _turned(x, cos, sin)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        cos, sin = ctx.saved_tensors
        return _turned(grads[0], cos, -sin), None


def _turned(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    half = x.shape[-1] // 2
    a, b, y = x[..., :half], x[..., half:], torch.empty_like(x)
    torch.mul(a, cos, out=y[..., :half]).addcmul_(b, sin, value=-1)
    torch.mul(b, cos, out=y[..., half:]).addcmul_(a, sin)
    return y


class _Norm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        wide = x.float() if x.dtype in (torch.bfloat16, torch.float16) else x
        scale = wide.square().mean(-1, keepdim=True).add_(eps).rsqrt_()
        unit = wide * scale
        ctx.save_for_backward(unit, scale, weight)
        return (unit * weight).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None]:
        unit, scale, weight = ctx.saved_tensors
        slope = grads[0].to(unit.dtype)
        dweight = (slope * unit).flatten(0, -2).sum(0)
        inner = slope * weight
        along = (inner * unit).mean(-1, keepdim=True)
        return torch.addcmul(inner, unit, along, value=-1).mul_(scale).to(grads[0].dtype), dweight, None


class _Gated(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        a, b = x.chunk(2, -1)
        return F.silu(a) * b

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor]:
        (x,), slope = ctx.saved_tensors, grads[0]
        a, b = x.chunk(2, -1)
        dx = torch.empty_like(x)
        da, db = dx.chunk(2, -1)
        gate = a.sigmoid()
        torch.mul(a, gate, out=db)
        # silu' = gate (1 + a (1 - gate)) = gate + silu (1 - gate)
        torch.addcmul(gate, db, 1 - gate, out=da).mul_(b).mul_(slope)
        db.mul_(slope)
        return (dx,)
