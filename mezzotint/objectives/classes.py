"""Training a network that is told a class, for guidance without a classifier (D-CFG, 2412.10193, sec. 3)."""

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from mezzotint.layouts import Inputs
from mezzotint.objectives.base import Loss, Objective
from mezzotint.objectives.vectors import Labelled
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

        def told(inputs: Inputs, t: Tensor | None = None) -> Tensor:
            return denoiser(replace(inputs, label=label), t)

        return self.inner(told, batch, rng)
