"""Reverse steps of score models: analytic (Tweedie), Euler, and the last one (SEDD, 2310.16834, sec. 4.2)."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from mezzotint.processes.score_noise import ScoreNoise
from mezzotint.rng import Rng, draw
from mezzotint.schedules import Survival, noise_rate

Reading = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(raw Float[B, L, V], x_t, t) -> log scores Float[B, L, V], log p_t(y) / p_t(x_t); 0 at the present token."""
Chances = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
"""(score, x_t, t, s) -> Float[B, L, V], the chances of x_s up to a factor; coarse steps can make some negative."""


def analytic(noise: ScoreNoise, schedule: Survival) -> Chances:
    """Theorem 4.2; to s = 0 nothing may stay noise, whatever survival the schedule has there."""

    def chances(score: Tensor, x_t: Tensor, t: Tensor, s: Tensor) -> Tensor:
        a_s = torch.where(s <= 0, 1.0, schedule.alpha(s.double()))
        return noise.tweedie(score, x_t, schedule.alpha(t.double()) / a_s)

    return chances


def euler(noise: ScoreNoise, schedule: Survival) -> Chances:
    """Eq. 17, a step of (t - s) sigma'(t)."""

    def chances(score: Tensor, x_t: Tensor, t: Tensor, s: Tensor) -> Tensor:
        return noise.euler(score, x_t, (t - s).double() * noise_rate(schedule, t.double()))

    return chances


@dataclass(frozen=True)
class ScoreReverse:
    """(raw, x_t, t, s, rng) -> x_s, Long[B, L]; `step` until the last step, which denoises analytically."""

    noise: ScoreNoise
    reading: Reading
    step: Chances
    mask_id: int
    schedule: Survival

    def __call__(self, raw: Tensor, x_t: Tensor, t: Tensor, s: Tensor, rng: Rng) -> Tensor:
        return draw(self.chances(raw, x_t, t, s), rng)

    def chances(self, raw: Tensor, x_t: Tensor, t: Tensor, s: Tensor) -> Tensor:
        """Float64[B, L, V] up to a factor, nothing negative."""
        score = self.reading(raw.double(), x_t, t).exp()
        last = analytic(self.noise, self.schedule)(score, x_t, t, torch.zeros_like(s))
        mask = torch.arange(raw.shape[-1], device=raw.device) == self.mask_id
        if self.noise.limit[self.mask_id] == 0:
            score = score.masked_fill(mask, 0.0)
        chances = torch.where((s <= 0)[..., None], last.masked_fill(mask, 0.0), self.step(score, x_t, t, s))
        return chances.clamp_min(0)
