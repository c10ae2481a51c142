"""The types every objective shares.  The trainer knows these and nothing of noise, images or rewards."""

from dataclasses import dataclass, field
from typing import Any, Protocol

from torch import Tensor

from mezzotint.rng import Rng


@dataclass(slots=True)
class Loss:
    """What an objective says about one batch."""

    total: Tensor
    """Scalar for backward(), a mean over `count`."""
    count: Tensor
    """Scalar: how many tokens `total` is a mean over; weighs micro-batches and ranks exactly."""
    per_token: Tensor | None = None
    """Float[B, L] nats, 0 outside the target, where the objective has them."""
    metrics: dict[str, Tensor] = field(default_factory=dict)
    """Further scalars worth recording, each a mean over `count`."""


class Objective(Protocol):
    """(denoiser, batch, rng) -> Loss; owns the forward pass, or passes, of the denoiser.

    `batch` is whatever the task's data gives: `mezzotint.batch.Batch` for text.
    """

    def __call__(self, denoiser: Any, batch: Any, rng: Rng) -> Loss:
        """The loss on one batch; every draw comes from `rng`."""
        ...
