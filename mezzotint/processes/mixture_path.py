"""The mixture path between a noise source and data: every column switches from one to the other, once.

Discrete flow matching (Gat et al. 2024, arXiv 2407.15595) calls data x_1, noise x_0, and runs its time from noise to
data.  Here, as everywhere, x_0 is clean and t = 0 is clean: kappa of the paper is alpha, its time is 1 - t, its
derivative of kappa is -alpha'(t).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from mezzotint.config import config
from mezzotint.errors import VocabularyError
from mezzotint.plugins import OneOf
from mezzotint.processes.base import Discrete
from mezzotint.rng import Rng
from mezzotint.schedules import Cosine, Linear, Polynomial, Survival

_NOISE, _COUPLING, _SHARE = 0x9A7, 0xC0B, 1
_LEAST = 1e-12


@config
class Power:
    """alpha = (1 - t)^power: kappa = s^power in the paper's time s, its polynomial scheduler (2407.15595, sec. 4).

    1 is the linear path, 3 the cubic one of Edit Flows (2506.09018).
    """

    kind: Literal["power"] = "power"
    power: float = Field(default=1.0, gt=0)
    """Above 1 most of the text is decided late in sampling."""

    def alpha(self, t: Tensor) -> Tensor:
        return (1 - t) ** self.power

    def dalpha(self, t: Tensor) -> Tensor:
        return -self.power * (1 - t) ** (self.power - 1)

    def time(self, alpha: Tensor) -> Tensor:
        return 1 - alpha ** (1 / self.power)


FlowSchedule = Annotated[Survival, OneOf("schedules", Survival, (Power, Linear, Cosine, Polynomial))]
"""Schedules of flows; those of diffusion run the same path."""


Coupling = Callable[[Tensor, Tensor, Rng], Tensor]
"""(noise Long[B, L], drawn by itself; clean tokens Long[B, L]; rng) -> the noise that their path starts from."""


@dataclass(frozen=True)
class ConditionalCoupling:
    """Part of a text is its own noise, for infilling, after the paper's conditional coupling (2407.15595).

    Each row keeps a share of its tokens, drawn evenly from 0 to `most`: noise and text Long[B, L] -> noise Long[B, L].
    """

    most: float

    def __call__(self, noise: Tensor, x_0: Tensor, rng: Rng) -> Tensor:
        share = self.most * rng.fork(_SHARE).uniform((x_0.shape[0],), x_0.device)
        return torch.where(rng.uniform(tuple(x_0.shape), x_0.device) < share[:, None], x_0, noise)


class MixturePath(Discrete):
    """q(x_t | x_0) = alpha_t x_0 + (1 - alpha_t) source, each column by itself, where noise and text are independent.

    Coupled ones start from noise that depends on the text; velocities are the same, of p(x_0 | x_t) under the coupling.
    """

    source: Tensor

    def __init__(self, source: Tensor, schedule: Survival, coupling: Coupling | None = None) -> None:
        """`source` Float[V]: probabilities of the noise; all on one id for a mask or a blank.

        Raises:
            VocabularyError: probabilities that are negative or do not sum to one.
        """
        super().__init__()
        if bool((source < 0).any()) or abs(float(source.double().sum()) - 1) > 1e-6:
            raise VocabularyError(
                f"cannot draw noise from {source.tolist()}: give one probability per id, with a sum of one"
            )
        self.vocab, self.schedule, self.coupling = source.shape[0], schedule, coupling
        self.register_buffer("source", source.double(), persistent=False)

    def prior(self, shape: tuple[int, int], device: torch.device | str | None, rng: Rng) -> Tensor:
        """Long[B, L], independent draws from the source."""
        edges = self.source.to(device).cumsum(0)[:-1].contiguous()
        return torch.searchsorted(edges, rng.uniform(shape, device), right=True)

    def corrupt(self, x_0: Tensor, t: Tensor, rng: Rng) -> Tensor:
        """Long[B, L]: each token replaced by its noise, a draw from the source, with probability 1 - alpha(t)."""
        noise = self.prior((x_0.shape[0], x_0.shape[1]), x_0.device, rng.fork(_NOISE))
        if self.coupling is not None:
            noise = self.coupling(noise, x_0, rng.fork(_COUPLING))
        return self.between(noise, x_0, t, rng)

    def between(self, noise: Tensor, x_0: Tensor, t: Tensor, rng: Rng) -> Tensor:
        """x_t for given ends Long[B, L]: the noise with probability 1 - alpha(t), else the clean token."""
        return torch.where(rng.uniform(tuple(x_0.shape), x_0.device) < 1 - self.alpha(t), noise, x_0)

    def rate(self, t: Tensor) -> Tensor:
        """-alpha' / (1 - alpha), shape of t: how fast columns that have not switched yet do so (2407.15595, sec. 3)."""
        return hazard(self.schedule, t)

    def velocity(self, p0: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """Marginal probability velocity Float[B, L, V], for p0 = p(x_0 | x_t): rate (p0 - [x_t]); rows sum to zero."""
        return self.rate(t)[..., None] * (p0 - F.one_hot(x_t, self.vocab).to(p0.dtype))

    def jumps(self, x_0: Tensor, x_t: Tensor, t: Tensor, churn: float | Tensor = 0.0) -> Tensor:
        """Rates Float64[B, L, V] of leaving x_t for each other token, when the clean tokens are x_0.

        `churn` is the coefficient c(t) of a divergence-free term: the path's forward and backward velocities together,
        which send columns back to noise and on again and leave every marginal as it is:
        u = rate [x_0] + c(t) (-alpha') / (alpha (1 - alpha)) ((1 - alpha) source + alpha [x_0]).
        """
        a = self.schedule.alpha(t).double()[..., None]
        speed = -self.schedule.dalpha(t).double()[..., None]
        clean = F.one_hot(x_0, self.vocab).double()
        # at the noise end the way back is infinitely fast; the bound keeps it a fresh draw from the source
        back = self.source.to(x_t.device) / a.clamp_min(_LEAST)
        rates = speed * ((1 + churn) * clean / (1 - a) + churn * back)
        return rates.masked_fill(F.one_hot(x_t, self.vocab).bool(), 0.0)

    def posterior(self, p0: Tensor, x_t: Tensor, a_t: Tensor, a_s: Tensor) -> Tensor:
        """q(x_s | x_t) averaged over x_0 ~ p0: a column switches to its clean token, or stays as it is.

        The chance of switching is (a_s - a_t) / (1 - a_t), whatever the column holds.

        Args:
            p0: Float[B, L, V], the ordinary posterior p(x_0 | x_t), not the leave-one-out one.
            x_t: Long[B, L].
            a_t: Float[B, 1] or [B, L], survival at t; a_t < 1.
            a_s: as a_t, survival at s; a_s >= a_t.

        Returns:
            Float[B, L, V]; rows sum to one where those of p0 do.
        """
        switch = ((a_s - a_t) / (1 - a_t))[..., None].to(p0.dtype)
        return switch * p0 + (1 - switch) * F.one_hot(x_t, self.vocab).to(p0.dtype)


def hazard(schedule: Survival, t: Tensor) -> Tensor:
    """-alpha' / (1 - alpha), shape and dtype of t: the rate at which what is still noise turns clean."""
    exact = t.double()  # near the clean end 1 - alpha has no digits left in float32, and of flat schedules in float64
    return (-schedule.dalpha(exact) / (1 - schedule.alpha(exact)).clamp_min(_LEAST)).to(t.dtype)


def absent(schedule: Survival, t: Tensor) -> Tensor:
    """1 - alpha, shape and dtype of t: the share of what is still noise, above zero."""
    return (1 - schedule.alpha(t.double())).clamp_min(_LEAST).to(t.dtype)


def share(schedule: Survival, t: Tensor, s: Tensor) -> Tensor:
    """(alpha(s) - alpha(t)) / (1 - alpha(t)): how much of what is noise at t turns clean until s; 1 if s is clean.

    Float64; the shapes of t and s broadcast.
    """
    a_t, a_s = schedule.alpha(t.double()), schedule.alpha(s.double())
    return (a_s - a_t) / (1 - a_t)


def divergence(logp: Tensor, x_0: Tensor, x_t: Tensor) -> Tensor:
    """Generalised KL from the conditional velocity to the predicted one at unit rate, Float[B, L], at least zero.

    [x_t = x_0] - p(x_t) - [x_t != x_0] log p(x_0), for logp = log p(x_0 | x_t), Float[B, L, V].
    """
    same = x_t == x_0
    here, clean = (logp.gather(-1, tokens[..., None])[..., 0] for tokens in (x_t, x_0))
    return same.to(logp.dtype) - here.exp() - torch.where(same, 0.0, clean)


def masked_source(vocab: int, mask_id: int) -> Tensor:
    """Float64[V], everything on [MASK]."""
    return F.one_hot(torch.tensor(mask_id), vocab).double()


def uniform_source(vocab: int, mask_id: int) -> Tensor:
    """Float64[V], the same for every id but [MASK]."""
    return (1 - masked_source(vocab, mask_id)) / (vocab - 1)
