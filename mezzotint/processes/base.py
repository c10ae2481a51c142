"""What every noising process answers.

B batch, L columns, V vocabulary.  Times are Float[B, 1] (one per sequence) or Float[B, L] (one per column).  Processes
are modules because embeddings and transition matrices move, save and train with them; no answer waits for the device.
"""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from mezzotint.rng import Rng
from mezzotint.schedules import Survival


class Process(nn.Module, ABC):
    """q(x_t | x_0): how clean text becomes noise."""

    schedule: Survival

    def alpha(self, t: Tensor, x_0: Tensor | None = None) -> Tensor:
        """Survival at t, Float[B, 1] or [B, L]; processes where it depends on the token read `x_0`."""
        return self.schedule.alpha(t)

    @abstractmethod
    def corrupt(self, x_0: Tensor, t: Tensor, rng: Rng) -> Tensor:
        """x_t ~ q(x_t | x_0): Long[B, L] for discrete processes, Float[B, L, E] for Gaussian ones."""

    @abstractmethod
    def prior(self, shape: tuple[int, int], device: torch.device | str | None, rng: Rng) -> Tensor:
        """x_1, pure noise, for `shape` = (B, L): Long[B, L] tokens or Float[B, L, E] vectors."""

    def hold(self, x_t: Tensor, x_0: Tensor, fixed: Tensor) -> Tensor:
        """x_t with the clean value wherever Bool[B, L] `fixed` is set."""
        return torch.where(fixed, x_0, x_t)


class Discrete(Process):
    """A process whose noisy values are tokens."""

    vocab: int

    @abstractmethod
    def posterior(self, p0: Tensor, x_t: Tensor, a_t: Tensor, a_s: Tensor) -> Tensor:
        """q(x_s | x_t) averaged over x_0 ~ p0, Float[B, L, V], for the survivals a_t <= a_s of t >= s."""
