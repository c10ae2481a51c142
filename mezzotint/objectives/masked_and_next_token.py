"""A masked loss and the loss of the next token in one pass over [x_t, x_0], for networks that stay causal.

The clean half of the pass is a causal text, so its columns can be asked for the next token at the price of a head.
What the network could do before, it then goes on doing.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mezzotint.batch import Batch
from mezzotint.layouts import Inputs
from mezzotint.objectives.base import Loss
from mezzotint.objectives.chunked_cross_entropy import Split, cross_entropy
from mezzotint.objectives.masked_cross_entropy import Counted
from mezzotint.rng import Rng


@dataclass(frozen=True)
class MaskedAndNextToken:
    """`masked` plus `weight` times the mean cross-entropy of next tokens on the clean half."""

    masked: Counted
    """Its layout has a causal clean half of as many columns behind the noisy one: `layouts.CausalNoisyThenClean`."""
    lookback: int
    """1 where the network says at a column what it thinks of the next one, so that its answers are moved by one."""
    weight: float | None = 1.0
    """None: what makes both losses weigh the same, the ratio of the two, taken as a number (I-DLM, 2604.11035)."""

    def __call__(self, denoiser: Any, batch: Batch, rng: Rng) -> Loss:
        """The loss on one batch; metrics have the two parts."""
        parts, x_0 = self.masked, batch.tokens
        noise = parts.noised(batch, rng)
        inputs = parts.layout.arrange(x_0.masked_fill(noise.masked, parts.process.mask_id), x_0)
        share, count = parts.count(noise.masked, noise.target)
        weight = parts.weigh(noise.t, noise.masked)[noise.masked]
        follows = batch.target.clone()
        follows[:, 0] = False
        even = torch.ones_like(x_0[follows], dtype=weight.dtype) / follows.sum().clamp_min(1)
        # a column's answer stands in its row, so without a shift the next token's is asked for one row before it
        rows = torch.cat([_rows(noise.masked, 0), _rows(follows, x_0.shape[1]) - 1 + self.lookback])
        wanted = torch.cat([x_0[noise.masked], x_0[follows]])
        weights = torch.cat([weight / share.expand(x_0.shape)[noise.masked], even])
        hidden, following, nats = _parts(denoiser, inputs, noise.t, rows, wanted, weights, len(weight))
        factor = (hidden / following.clamp_min(1e-6)).detach() if self.weight is None else self.weight
        per_token = torch.zeros(x_0.shape, dtype=nats.dtype, device=nats.device)
        per_token = per_token.masked_scatter(noise.masked, nats * weight)
        metrics = {"masked": hidden.detach(), "next": following.detach()}
        return Loss(hidden + factor * following, count, per_token, metrics)


def _rows(chosen: Tensor, before: int) -> Tensor:
    """Long[n]: columns Bool[B, L] counted through [B, 2L], behind `before` columns of their row."""
    row, column = chosen.nonzero().unbind(1)
    return row * 2 * chosen.shape[1] + before + column


def _parts(
    denoiser: Any, inputs: Inputs, t: Tensor, rows: Tensor, wanted: Tensor, weight: Tensor, first: int
) -> tuple[Tensor, Tensor, Tensor]:
    """The weighted nats of the first `first` rows, those of the others, and the nats of the first ones one by one."""
    if isinstance(denoiser, Split):
        h = denoiser.hidden_at(inputs, t, rows)
        (one, nats), (other, _) = (
            cross_entropy(h[part], denoiser.head, wanted[part], weight[part], None)
            for part in (slice(first), slice(first, None))
        )
        return one, other, nats
    raw = denoiser(inputs, t).flatten(0, 1)[rows]
    raw = raw.to(torch.promote_types(raw.dtype, torch.float32))
    nats = raw.logsumexp(-1) - raw.gather(-1, wanted[:, None])[:, 0]
    weighted = nats * weight
    return weighted[:first].sum(), weighted[first:].sum(), nats[:first].detach()
