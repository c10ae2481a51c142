"""Training a network that is told a class, for guidance without a classifier (D-CFG, 2412.10193, sec. 3)."""

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from mezzotint.layouts import Inputs
from mezzotint.objectives.base import Loss, Objective
from mezzotint.objectives.chunked_cross_entropy import Split
from mezzotint.objectives.embedding_denoising import Labelled
from mezzotint.rng import Rng

_DROP = 0xC1A55


@dataclass(frozen=True)
class Classes:
    """Any family's loss, for a network that reads `Inputs.label`: the class of the text, and for some texts none."""

    inner: Objective
    none: int
    """The id that stands for no class: the number of classes, in DiT."""
    drop: float = 0.1
    """Share of the texts that are read without theirs."""

    def __call__(self, denoiser: Any, batch: Labelled, rng: Rng) -> Loss:
        """The loss; `batch.labels` is Long[B]."""
        dropped = rng.fork(_DROP).uniform((len(batch.labels), 1), batch.labels.device)[:, 0] < self.drop
        label = torch.where(dropped, self.none, batch.labels)
        told = _InParts if isinstance(denoiser, Split) else _Told
        return self.inner(told(denoiser, label), batch, rng)


@dataclass(frozen=True)
class _Told:
    """A denoiser that hears these labels, Long[B]."""

    denoiser: Any
    label: Tensor

    def __call__(self, inputs: Inputs, t: Tensor | None = None) -> Tensor:
        return self.denoiser(replace(inputs, label=self.label), t)


class _InParts(_Told):
    """The same for one that can be asked for single columns: `objectives.chunked_cross_entropy.Split`."""

    @property
    def head(self) -> nn.Linear:
        return self.denoiser.head

    def hidden_at(self, inputs: Inputs, t: Tensor | None, rows: Tensor) -> Tensor:
        return self.denoiser.hidden_at(replace(inputs, label=self.label), t, rows)
