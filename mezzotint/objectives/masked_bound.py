"""The training step of the masked families that computes only what their loss reads.

It is `Denoising` with a token loss of weight(t) times cross-entropy at masked target columns, and gives the same loss
and gradients; it asks the network for those columns alone.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mezzotint.batch import Batch
from mezzotint.objectives.base import Loss
from mezzotint.objectives.chunked_cross_entropy import Split, cross_entropy
from mezzotint.objectives.denoising import Denoising, TokenLoss
from mezzotint.rng import Rng
from mezzotint.schedules import Survival

Weight = Callable[[Tensor], Tensor]
"""t -> what the cross-entropy of a masked column counts for, same shape."""


@dataclass(frozen=True)
class Bound:
    """-alpha'(t) / (1 - alpha(t)), of the shape of t.

    With it the mean over time is the bound on -log p (MDLM, 2406.07524, eq. 10).
    """

    schedule: Survival
    guard: float = 0.0
    """Added to 1 - alpha, as BD3LM's code does for one schedule; above 0 it is no bound."""

    def __call__(self, t: Tensor) -> Tensor:
        # a float32 loses 1 - alpha near t = 0 where a schedule starts flat, and infinity times no mask is no number
        exact = t.double()
        lost = (1 - self.schedule.alpha(exact) + self.guard).clamp_min(1e-12)
        return (-self.schedule.dalpha(exact) / lost).to(t.dtype)


def even(t: Tensor) -> Tensor:
    """One, whatever the time: plain masked-language-model loss; shape of t."""
    return torch.ones_like(t)


@dataclass(frozen=True)
class Masked:
    """`reference`, without the head and the softmax of columns that no loss reads.

    A denoiser that cannot leave anything out (a wrapper, a large published network) goes through `reference`.
    """

    reference: Denoising
    mask_id: int
    weight: Weight

    @property
    def token_loss(self) -> TokenLoss:
        """The loss of a column as the paper writes it."""
        return self.reference.token_loss

    def __call__(self, denoiser: Any, batch: Batch, rng: Rng) -> Loss:
        if not isinstance(denoiser, Split):
            return self.reference(denoiser, batch, rng)
        parts, x_0 = self.reference, batch.tokens
        t = parts.times(batch, rng)
        x_t = parts.process.hold(parts.process.corrupt(x_0, t, rng), x_0, ~batch.target)
        lost = (x_t == self.mask_id) & batch.target
        rows = lost.flatten().nonzero()[:, 0]
        h = denoiser.hidden_at(parts.layout.arrange(x_t, x_0), t, rows)
        weight = self.weight(t).expand(x_0.shape)[lost]
        count = batch.target.sum()
        total, nats = cross_entropy(h, denoiser.head, x_0[lost], weight / count.clamp_min(1), self.mask_id)
        per_token = torch.zeros(x_0.shape, dtype=nats.dtype, device=nats.device)
        return Loss(total, count, per_token.masked_scatter(lost, nats * weight))
