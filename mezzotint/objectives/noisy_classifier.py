"""Teaching a classifier to read the noisy texts of a discrete family, for D-CBG (2412.10193, sec. 3.2)."""

from dataclasses import dataclass
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from mezzotint.layouts import Full
from mezzotint.objectives.base import Loss
from mezzotint.objectives.embedding_denoising import Labelled, labelled
from mezzotint.objectives.times import Times, whole
from mezzotint.processes.base import Process
from mezzotint.rng import Rng


@dataclass(frozen=True)
class NoisyLabels:
    """Cross-entropy of labels at random times; the classifier reads one number per token of the vocabulary.

    So it has slopes along them, which first-order guidance follows.
    """

    process: Process
    vocab: int
    times: Times = whole

    def __call__(self, denoiser: Any, batch: Labelled, rng: Rng) -> Loss:
        """The loss of a classifier: Inputs Float[B, L, V], t -> Float[B, classes] or Float[B, L, classes]."""
        t = self.times(batch, rng)
        x_t: Tensor = self.process.hold(self.process.corrupt(batch.tokens, t, rng), batch.tokens, ~batch.target)
        return labelled(denoiser(Full().arrange(F.one_hot(x_t, self.vocab).float(), x_t), t), batch)
