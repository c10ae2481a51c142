"""Masked training as published networks have it: plain cross-entropy, and means over other things than target columns.

Papers agree on cross-entropy at masked columns and differ in its weight and in what the sum is divided by; both are
arguments here.  [MASK] is one of the answers that the softmax runs over, as in their code.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from mezzotint.batch import Batch
from mezzotint.layouts import Full, Inputs, Layout
from mezzotint.objectives.base import Loss
from mezzotint.objectives.chunked_cross_entropy import Split, cross_entropy
from mezzotint.objectives.fixed_count_masks import Choose
from mezzotint.objectives.times import Times, whole
from mezzotint.processes.absorbing import Absorbing
from mezzotint.rng import Rng

Weigh = Callable[[Tensor, Tensor], Tensor]
"""(t Float[B, 1 or L], masked columns Bool[B, L]) -> what each column's cross-entropy counts for."""
Count = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""(masked, target), Bool[B, L] -> what each row's sum is divided by, and how much the result weighs among batches."""


def per_token(masked: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """A mean over all target columns, masked or not (LLaDA's pre-training, SDAR).

    Masked and target columns Bool[B, L] give the divisor, a scalar, and what is counted, a scalar.
    """
    count = target.sum()
    return count.clamp_min(1), count


def per_masked(masked: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """A mean over the masked columns (DiffuLLaMA, Dream, Fast-dLLM v2); Bool[B, L] -> scalars, as `per_token`."""
    count = masked.sum()
    return count.clamp_min(1), count


def per_text(masked: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """A mean over texts of each text's mean over its target columns (LLaDA's fine-tuning).

    The divisor is Long[B, 1], the count of texts a scalar.
    """
    rows = torch.tensor(target.shape[0], device=target.device)
    return target.sum(-1, keepdim=True).clamp_min(1) * rows, rows


def as_weighed(masked: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """The weights add up to one already (`balanced`); a divisor of one and the count of masks, scalars."""
    count = masked.sum()
    return torch.ones_like(count), count


def inverse(t: Tensor, masked: Tensor) -> Tensor:
    """1 / t, of the shape of t: with a share t of the columns masked, the bound's weight."""
    return 1 / t


def balanced(t: Tensor, masked: Tensor) -> Tensor:
    """1 / t over its sum at masked columns Bool[B, L]: a mean in which lightly masked blocks count more (WeDLM)."""
    weight = 1 / t
    return weight / (weight * masked).sum().clamp_min(1e-12)


def plain(t: Tensor, masked: Tensor) -> Tensor:
    """One; shape of t."""
    return torch.ones_like(t)


@dataclass(frozen=True)
class MaskNoise:
    """Which columns of a batch are masked, and at which times."""

    masked: Tensor
    """Bool[B, L]."""
    target: Tensor
    """Bool[B, L]: what may be masked."""
    t: Tensor
    """Float[B, L], the share of masks that was asked for."""


@dataclass(frozen=True)
class Counted:
    """Masked cross-entropy: noise a batch, ask the denoiser, weigh and count."""

    process: Absorbing
    weigh: Weigh = inverse
    count: Count = per_token
    times: Times = whole
    layout: Layout = Full()  # noqa: RUF009 - frozen and without state
    given: int = 0
    """Columns at the start of every text that are never noised: 1 for networks that predict from the column before."""
    mirrored: bool = False
    """Train on the complement of each mask too, so that every target column is masked once (Fast-dLLM v2)."""
    choose: Choose | None = None
    """Which columns are masked, given their shares; None leaves each column's fate to the process."""
    certain: float = 0.0
    """Weight of the mean entropy where masked columns are already right: confidence-aware training (LLaDA2.0's CAP)."""

    def __call__(self, denoiser: Any, batch: Batch, rng: Rng) -> Loss:
        """The loss on one batch; with `mirrored`, over both halves."""
        noise = self.noised(batch, rng)
        masked, target, t = noise.masked, noise.target, noise.t
        if not self.mirrored:
            return self._loss(denoiser, batch.tokens, masked, target, t)
        tokens, target = torch.cat([batch.tokens] * 2), torch.cat([target] * 2)
        masked = torch.cat([masked, ~masked & target[: len(masked)]])
        return self._loss(denoiser, tokens, masked, target, torch.cat([t, 1 - t]))

    def noised(self, batch: Batch, rng: Rng) -> MaskNoise:
        """What is masked of a batch, by how much."""
        target = batch.target.clone()
        target[:, : self.given] = False
        t = self.times(batch, rng).expand(batch.tokens.shape)
        if self.choose is None:
            masked = self.process.corrupt(batch.tokens, t, rng) == self.process.mask_id
        else:
            masked = self.choose(t, rng)
        return MaskNoise(masked & target, target, t)

    def _loss(self, denoiser: Any, x_0: Tensor, masked: Tensor, target: Tensor, t: Tensor) -> Loss:
        x_t = x_0.masked_fill(masked, self.process.mask_id)
        if not self.certain and isinstance(denoiser, Split):
            return self._split(denoiser, self.layout.arrange(x_t, x_0), x_0, masked, target, t)
        raw = self.layout.extract(denoiser(self.layout.arrange(x_t, x_0), t))
        raw = raw.to(torch.promote_types(raw.dtype, torch.float32))
        nats = raw.logsumexp(-1) - raw.gather(-1, x_0[..., None])[..., 0]
        nats = torch.where(masked, nats * self.weigh(t, masked), 0.0)
        share, count = self.count(masked, target)
        total, metrics = (nats / share).sum(), {}
        if self.certain:
            doubt = self._doubt(raw, x_0, masked)
            total, metrics = total + self.certain * doubt, {"doubt": doubt.detach()}
        return Loss(total, count, nats, metrics)

    def _split(self, denoiser: Split, inputs: Inputs, x_0: Tensor, masked: Tensor, target: Tensor, t: Tensor) -> Loss:
        """The same loss and gradients, with logits of masked columns alone, a few at a time."""
        h = denoiser.hidden_at(inputs, t, masked.flatten().nonzero()[:, 0])
        share, count = self.count(masked, target)
        weight = self.weigh(t, masked)[masked]
        total, nats = cross_entropy(h, denoiser.head, x_0[masked], weight / share.expand(x_0.shape)[masked], None)
        per_token = torch.zeros(x_0.shape, dtype=nats.dtype, device=nats.device)
        return Loss(total, count, per_token.masked_scatter(masked, nats * weight))

    @staticmethod
    def _doubt(raw: Tensor, x_0: Tensor, masked: Tensor) -> Tensor:
        """The mean entropy of masked columns whose likeliest token is the right one; 0 if there are none."""
        right = masked & (raw.argmax(-1) == x_0)
        logp = raw[right].log_softmax(-1)
        return -(logp.exp() * logp).sum() / right.sum().clamp_min(1)

    def over(self, layout: Layout) -> "Counted":
        """The same on another layout."""
        return replace(self, layout=layout)
