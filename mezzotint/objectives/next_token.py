"""The autoregressive loss: each target token from the columns before it."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mezzotint.batch import Batch
from mezzotint.layouts import Attend, Inputs, causal
from mezzotint.objectives.base import Loss
from mezzotint.objectives.scoring import Split, cross_entropy
from mezzotint.rng import Rng


@dataclass(frozen=True)
class NextToken:
    """Cross-entropy of column i + 1 under the network's answer at column i, which sees columns 0 to i.

    The first column is given.  A network that is asked for single columns is asked for those that count.
    """

    never: int | None = None
    """A token that gets no probability, where the vocabulary has one that text does not."""

    def __call__(self, denoiser: Any, batch: Batch, rng: Rng) -> Loss:
        """The mean over target columns, without the first; nothing is drawn."""
        wanted = batch.target.clone()
        wanted[:, 0] = False
        count, inputs = wanted.sum(), causally(batch.tokens)
        after = wanted.roll(-1, 1)
        if isinstance(denoiser, Split):
            h = denoiser.hidden_at(inputs, None, after.flatten().nonzero()[:, 0])
            share = torch.ones(h.shape[0], device=h.device) / count.clamp_min(1)
            total, nats = cross_entropy(h, denoiser.head, batch.tokens[wanted], share, self.never)
            per_token = torch.zeros(wanted.shape, dtype=nats.dtype, device=nats.device).masked_scatter(wanted, nats)
            return Loss(total, count, per_token)
        raw = denoiser(inputs, None).float()
        if self.never is not None:
            raw = raw.index_fill(-1, torch.tensor([self.never], device=raw.device), -torch.inf)
        logp = raw.log_softmax(-1).roll(1, 1)
        nats = torch.where(wanted, -logp.gather(-1, batch.tokens[..., None])[..., 0], 0.0)
        return Loss(nats.sum() / count.clamp_min(1), count, nats)


def causally(tokens: Tensor) -> Inputs:
    """Inputs where each column sees itself and those before it."""
    columns = tokens.shape[1]
    return Inputs(tokens, torch.arange(columns, device=tokens.device), Attend(columns, columns, causal))
