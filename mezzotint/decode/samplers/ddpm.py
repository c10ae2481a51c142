"""DDPM and DDIM steps of Gaussian diffusion on vectors: draw from the posterior, or follow it without noise."""

from dataclasses import dataclass

import torch
from torch import Tensor

from mezzotint.processes.gaussian import Gaussian, normal
from mezzotint.rng import Rng


@dataclass(frozen=True)
class GaussianReverse:
    """One step of the sampler, (raw, z_t, t, s, rng) -> z_s, vectors being Float[B, L, E]."""

    process: Gaussian
    eta: float | None = None
    """Of DDIM; None: the posterior's step."""
    clamp: float = 0.0
    """Estimates become their nearest embeddings from this time down."""
    tails: float | None = None
    """Noise beyond this many standard deviations is never drawn (the code's `top_p`)."""

    def moments(self, raw: Tensor, z_t: Tensor, t: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
        """Mean Float[B, L, E] and standard deviation Float[B, 1|L, 1] of z_s."""
        a_t, a_s, z_0 = self.process.alpha(t), self.process.alpha(s), self.estimate(raw, t)
        if self.eta is None:
            return self.process.posterior(z_0, z_t, a_t, a_s)
        return self.process.implicit(z_0, z_t, a_t, a_s, self.eta)

    def estimate(self, raw: Tensor, t: Tensor) -> Tensor:
        """x_0 as the step uses it."""
        return torch.where((t <= self.clamp)[..., None], self.process.nearest(raw), raw) if self.clamp else raw

    def __call__(self, raw: Tensor, z_t: Tensor, t: Tensor, s: Tensor, rng: Rng) -> Tensor:
        mean, std = self.moments(raw, z_t, t, s)
        return mean + std * normal(rng, tuple(mean.shape), mean, self.tails)
