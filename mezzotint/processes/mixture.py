"""Masks and random tokens at once: the hybrid noise of GIDD (von Ruette et al. 2025, arXiv 2503.04482, sec. 4).

With c_t = B sqrt(t (1 - t)) and C_t = 1 + c_t, survival is alpha_t = (1 - t) / C_t, [MASK] has the share t / C_t and
the other ids have c_t / C_t together.  B = 2 p / (1 - p) puts the largest share of random tokens, p, at t = 1/2.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from mezzotint.errors import ConfigError, VocabularyError
from mezzotint.processes.interpolating import Interpolating
from mezzotint.rng import Rng

_KIND, _WHERE = 0x0B1D, 0x0A1F
_LEAST = math.exp(-20)


@dataclass(frozen=True)
class HybridMixture:
    """Survival alpha = (1 - t) / (1 + B sqrt(t (1 - t))) for the largest share `uniform` of random tokens."""

    uniform: float
    """At 0 it is that of pure masking; as published, never below exp(-20)."""

    def __post_init__(self) -> None:
        if not 0 <= self.uniform < 1:
            raise ConfigError(f"cannot make a share of {self.uniform} of the tokens random: take one in [0, 1)")

    @property
    def log_b(self) -> float:
        """log B."""
        p = max(self.uniform, _LEAST)
        return math.log(2) + math.log(p) - math.log1p(-p)

    def bump(self, t: Tensor) -> Tensor:
        """c_t, of the shape of t."""
        return math.exp(self.log_b) * (t * (1 - t)).sqrt()

    def slope(self, t: Tensor) -> Tensor:
        """c'_t, of the shape of t; infinite at both ends."""
        return math.exp(self.log_b) * (1 - 2 * t) / (2 * (t * (1 - t)).sqrt())

    def alpha(self, t: Tensor) -> Tensor:
        """Survival."""
        return (1 - t) / (1 + self.bump(t))

    def dalpha(self, t: Tensor) -> Tensor:
        """Its derivative."""
        return self.alpha(t) * self.ratio(t)

    def ratio(self, t: Tensor) -> Tensor:
        """alpha' / alpha = -1 / (1 - t) - c' / C, of the shape of t."""
        return -1 / (1 - t) - self.slope(t) / (1 + self.bump(t))

    def time(self, alpha: Tensor) -> Tensor:
        """The inverse: with u = 1 - t, (u - alpha)^2 = alpha^2 B^2 u (1 - u), the root above alpha."""
        ab = alpha * math.exp(self.log_b)
        root = ab * (ab**2 + 4 * alpha * (1 - alpha)).sqrt()
        return 1 - (2 * alpha + ab**2 + root) / (2 * (1 + ab**2))


class Mixture(Interpolating):
    """q(x_t | x_0) = alpha_t x_0 + (t [MASK] + c_t / N) / C_t over N ids besides [MASK]."""

    def __init__(self, vocab: int, mask_id: int, uniform: float) -> None:
        """`vocab` counts every id, [MASK] included; `uniform` is the largest share of random tokens, at t = 1/2.

        Raises:
            VocabularyError: `mask_id` is not one of at least two ids.
        """
        super().__init__()
        if not 0 <= mask_id < vocab or vocab < 2:
            raise VocabularyError(
                f"cannot use {mask_id} as the mask token: the vocabulary has the ids 0 to {vocab - 1}"
            )
        self.vocab, self.mask_id = vocab, mask_id
        self.schedule = self.hybrid = HybridMixture(uniform)

    def corrupt(self, x_0: Tensor, t: Tensor, rng: Rng) -> Tensor:
        """Long[B, L]: each token kept, masked or redrawn from the real ids."""
        shape = (x_0.shape[0], x_0.shape[1])
        exact = t.double()
        total = 1 + self.hybrid.bump(exact)
        u = rng.fork(_KIND).uniform(shape, x_0.device)
        drawn = (rng.fork(_WHERE).uniform(shape, x_0.device) * (self.vocab - 1)).long()
        drawn = drawn + (drawn >= self.mask_id).long()
        hidden = torch.where(u < exact / total, self.mask_id, drawn)
        return torch.where(u < 1 - self.alpha(exact), hidden, x_0)

    def prior(self, shape: tuple[int, int], device: torch.device | str | None, rng: Rng | None = None) -> Tensor:
        """Long[B, L], all [MASK]: at t = 1 no random token is left."""
        return torch.full(shape, self.mask_id, device=device)

    def noise(self, t: Tensor) -> Tensor:
        """b_t, Float64[B, 1|L, V]."""
        exact = t.double()
        total = 1 + self.hybrid.bump(exact)
        return self._spread(exact / total, self.hybrid.bump(exact) / total)

    def intensity(self, t: Tensor) -> Tensor:
        """c(t): 1 / (C (1 - t)) into [MASK], (c' + c / (1 - t)) / (N C) into each other id."""
        exact = t.double()
        total, bump = 1 + self.hybrid.bump(exact), self.hybrid.bump(exact)
        others = (self.hybrid.slope(exact) + bump / (1 - exact)) / total
        return self._spread(1 / (total * (1 - exact)), others)

    def posterior(self, p0: Tensor, x_t: Tensor, a_t: Tensor, a_s: Tensor) -> Tensor:
        """`back` at the times of the survivals a_t and a_s, Float[B, L, V]."""
        t, s = (self.schedule.time(a.double()) for a in (a_t, a_s))
        return self.back(p0, x_t, t, s)

    def _spread(self, mask: Tensor, others: Tensor) -> Tensor:
        """Float64[B, 1|L, V] from what [MASK] has and what the others have together."""
        here = torch.arange(self.vocab, device=mask.device) == self.mask_id
        return torch.where(here, mask[..., None], others[..., None] / (self.vocab - 1))
