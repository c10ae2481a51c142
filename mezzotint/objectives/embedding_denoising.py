"""The path of families that denoise vectors: embed, noise, hold, arrange, denoise, weigh.

Given columns hold their clean embedding and are at time 0, so a network that is told each column's time knows which
columns are conditions.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from mezzotint.batch import Batch
from mezzotint.errors import ConfigError
from mezzotint.layouts import Full, Layout
from mezzotint.objectives.base import Loss
from mezzotint.objectives.times import Times, whole
from mezzotint.processes.gaussian import Gaussian
from mezzotint.rng import Rng

_SPANS = 0x59A25  # forks the caller's noise, so that no two draws share a number


@dataclass(frozen=True, slots=True)
class Noised:
    """What one batch became."""

    tokens: Tensor
    """Long[B, L]."""
    z_0: Tensor
    """Float[B, L, E], around the embeddings."""
    z_t: Tensor
    """Float[B, L, E]; clean embeddings in given columns."""
    t: Tensor
    """Float[B, 1 or L], as drawn."""


Terms = Callable[[Tensor, Noised], dict[str, Tensor]]
"""(raw Float[B, L, E], what it answers) -> named terms Float[B, L] whose sum is trained on."""
Given = Callable[[Batch, Rng], Tensor]
"""(batch, rng) -> Bool[B, L]: target columns that are shown as conditions this time."""


@dataclass(frozen=True)
class EmbeddingDenoising:
    """Noise the embeddings of a batch, ask the denoiser for clean ones, and add up the family's terms.

    Raises:
        ConfigError: a denoiser that carries embeddings other than `process`, as a copy of a network does.
    """

    process: Gaussian
    terms: Terms
    times: Times = whole
    layout: Layout = Full()  # noqa: RUF009 - frozen and without state
    given: Given | None = None
    """Which columns of the target are conditions; none if not given."""

    def __call__(self, denoiser: Any, batch: Batch, rng: Rng) -> Loss:
        self._own(denoiser)
        if self.given is not None:
            batch = replace(batch, target=batch.target & ~self.given(batch, rng.fork(_SPANS)))
        noised = noise(self.process, batch, self.times(batch, rng), rng)
        told = torch.where(batch.target, noised.t, torch.zeros_like(noised.t))
        raw = self.layout.extract(denoiser(self.layout.arrange(noised.z_t, batch.tokens), told))
        return weighed(self.terms(raw, noised), batch.target)

    def _own(self, denoiser: Any) -> None:
        carried = denoiser.modules() if isinstance(denoiser, nn.Module) else ()
        if any(isinstance(part, Gaussian) and part is not self.process for part in carried):
            raise ConfigError(
                "the network carries other embeddings than the loss: build the family on the network's own process"
            )


def noise(process: Gaussian, batch: Batch, t: Tensor, rng: Rng) -> Noised:
    """A batch at times Float[B, 1 or L], clean outside its target."""
    z_0, z_t = process.both(batch.tokens, t, rng)
    return Noised(batch.tokens, z_0, process.hold(z_t, batch.tokens, ~batch.target), t)


def weighed(terms: dict[str, Tensor], target: Tensor) -> Loss:
    """The sum of named terms Float[B, L] over Bool[B, L] `target`, with each term's mean beside it."""
    count = target.sum()
    parts = {name: (term * target).sum() / count.clamp_min(1) for name, term in terms.items()}
    nats = torch.stack([term * target for term in terms.values()]).sum(0)
    metrics = {name: part.detach() for name, part in parts.items()}
    return Loss(nats.sum() / count.clamp_min(1), count, nats, metrics)


@dataclass(frozen=True)
class Spans:
    """Conditions as spans (SED, 2211.04236, sec. 3.4): 1 to `most` spans, every other one given, which half by a coin.

    A text of one span is generated without any condition.
    """

    most: int = 5

    def __call__(self, batch: Batch, rng: Rng) -> Tensor:
        """Bool[B, L]: columns that are given."""
        rows, columns = batch.tokens.shape
        device = batch.tokens.device
        count = (rng.uniform((rows, 2), device) * torch.tensor([self.most, 2], device=device)).long()
        cuts, swap = count[:, :1].clamp_max(columns - 1), count[:, 1:]
        order = rng.fork(1).uniform((rows, columns), device)
        order[:, 0] = torch.inf  # the first column opens the first span anyway
        cut = order.argsort(-1).argsort(-1) < cuts
        span = cut.cumsum(-1)
        return ((span + swap) % 2 == 0) & (cuts > 0)


@dataclass(slots=True)
class Labelled(Batch):
    """Sequences with what a classifier should say about them."""

    labels: Tensor = field(kw_only=True)
    """Long[B], a class per text, or Long[B, L], one per token."""


@dataclass(frozen=True)
class Labels:
    """Teaches a classifier to read noisy vectors: cross-entropy of the labels at random times (2205.14217, sec. 5.1).

    A class per text is weighed once per text, one per token once per target token.
    """

    process: Gaussian
    times: Times = whole
    layout: Layout = Full()  # noqa: RUF009 - frozen and without state

    def __call__(self, denoiser: Any, batch: Labelled, rng: Rng) -> Loss:
        """The loss of a classifier: Inputs, t -> Float[B, classes] or Float[B, L, classes]."""
        with torch.no_grad():
            noised = noise(self.process, batch, self.times(batch, rng), rng)
        return labelled(denoiser(self.layout.arrange(noised.z_t, batch.tokens), noised.t), batch)


def labelled(logits: Tensor, batch: Labelled) -> Loss:
    """The cross-entropy of labels, and how often the likeliest one is right; see `Labels` for what counts.

    Logits are Float[B, K] for labels Long[B], or Float[B, L, K] for Long[B, L].
    """
    nats = -logits.log_softmax(-1).gather(-1, batch.labels[..., None])[..., 0]
    counted = batch.target if batch.labels.dim() == 2 else torch.ones_like(batch.labels, dtype=torch.bool)
    loss = weighed({"cross_entropy": nats}, counted)
    hit = (logits.argmax(-1) == batch.labels) & counted
    loss.metrics["accuracy"] = hit.sum() / counted.sum().clamp_min(1)
    return loss
