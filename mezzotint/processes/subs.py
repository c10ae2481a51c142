"""SUBS: what a masked network predicts of clean tokens, by substitution (MDLM, 2406.07524, sec. 3.2.3)."""

import torch
from torch import Tensor

NEVER = -1e6
"""A log-probability whose exponential is zero in every precision."""


def subs(raw: Tensor, x_t: Tensor, mask_id: int) -> Tensor:
    """Logits Float[B, L, V] -> log p(x_0 | x_t), sec. 3.2.3; exactly zero for the token that is already revealed.

    What cannot be is at NEVER and not at -inf, so that 0 times it stays 0.
    """
    logp = banned(raw, x_t, mask_id)
    kept = torch.full_like(logp, NEVER).scatter_(-1, x_t[..., None], 0.0)
    return torch.where((x_t == mask_id)[..., None], logp, kept)


def banned(raw: Tensor, x_t: Tensor, mask_id: int) -> Tensor:
    """Half of SUBS, an ablation, Float[B, L, V]: no mass on [MASK], but revealed tokens are predicted anew."""
    return (raw + NEVER * (torch.arange(raw.shape[-1], device=raw.device) == mask_id)).log_softmax(-1)
