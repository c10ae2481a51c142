"""The nucleus of BD3LM's and ReMDM's samplers, which keeps less than the usual one."""

import torch
from torch import Tensor


def nucleus(p0: Tensor, mass: float) -> Tensor:
    """Float[B, L, V] on the likeliest tokens whose running sum is at most `mass`, and the likeliest one, renormalised.

    `decode.shapers.TopP` (1904.09751) keeps one token more: the one that passes the mass.  At mass 1 all are kept.
    """
    if mass >= 1:
        return p0
    ordered, ids = p0.sort(dim=-1, descending=True, stable=True)
    kept = ordered.cumsum(-1) <= mass
    kept[..., 0] = True
    chosen = torch.zeros_like(p0).scatter_(-1, ids, ordered * kept)
    return chosen / chosen.sum(-1, keepdim=True)
