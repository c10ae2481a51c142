"""Processes that mix each clean token with noise that does not depend on it: q(x_t | x_0) = alpha_t x_0 + b_t.

b_t is a vector over the ids with the mass 1 - alpha_t.  The transition from s to t is alpha_t / alpha_s staying plus
b_t - (alpha_t / alpha_s) b_s, and the intensity of jumps into z is c_z = b_z' - (alpha' / alpha) b_z, whatever the
token was.  Posterior and bound of uniform noise (UDLM, 2412.10193) and of its mixtures with masks (GIDD, 2503.04482)
are these formulas with their b.
"""

from abc import abstractmethod

import torch
import torch.nn.functional as F
from torch import Tensor

from mezzotint.processes.base import Discrete


class Interpolating(Discrete):
    """q(x_t | x_0) = alpha_t x_0 + b_t, each column by itself."""

    @abstractmethod
    def noise(self, t: Tensor) -> Tensor:
        """b_t, Float64[B, 1|L, V], for t Float[B, 1|L]."""

    @abstractmethod
    def intensity(self, t: Tensor) -> Tensor:
        """c(t), Float64[B, 1|L, V]: the rate at which tokens turn into each id."""

    def marginal(self, p0: Tensor, t: Tensor) -> Tensor:
        """q(x_t | x_0) averaged over x_0 ~ p0, Float[B, L, V]."""
        return self.alpha(t.double())[..., None].to(p0.dtype) * p0 + self.noise(t).to(p0.dtype)

    def between(self, s: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """The transition from s to t > s: how much stays, Float64[B, 1|L, 1], and what is added, Float64[B, 1|L, V]."""
        kept = (self.alpha(t.double()) / self.alpha(s.double()))[..., None]
        return kept, self.noise(t) - kept * self.noise(s)

    def back(self, p0: Tensor, x_t: Tensor, t: Tensor, s: Tensor) -> Tensor:
        """The plug-in posterior q(x_t | x_s) q(x_s | p0) / q(x_t | p0) for s < t (GIDD, eq. 9).

        Args:
            p0: Float[B, L, V], probabilities of the clean token; for exact steps the leave-one-out ones, which do not
                look at the column's own noisy token.
            x_t: Long[B, L].
            t: Float[B, 1] or [B, L].
            s: as t, smaller.

        Returns:
            Float[B, L, V]; rows sum to one where those of p0 do.
        """
        kept, added = self.between(s, t)
        here = F.one_hot(x_t, self.vocab).to(p0.dtype)
        arrives = kept.to(p0.dtype) * here + pick(added, x_t)[..., None].to(p0.dtype)
        return arrives * self.marginal(p0, s) / pick(self.marginal(p0, t), x_t)[..., None]

    def weight(self, x_0: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """c_z / q(z | x_0) at z = x_t, Float64[B, L]: how fast time runs backwards through the token (GIDD, eq. 11)."""
        return pick(self.intensity(t), x_t) / self._true(x_0, x_t, t)

    def divergence(self, p0: Tensor, x_0: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """KL(q(. | x_0), q(. | p0)) + r - log r - 1 with r = q(x_t | x_0) / q(x_t | p0), Float[B, L], at least zero.

        Times `weight` it is the integrand of the bound on -log p (GIDD, Theorem 2): the rate of KL between the true
        and the modelled jumps back.
        """
        kl, rest = self.parts(p0, x_0, x_t, t)
        return kl + rest

    def parts(self, p0: Tensor, x_0: Tensor, x_t: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """The two terms of `divergence`, Float[B, L]: KL of the marginals, and r - log r - 1."""
        a, b, model = self.alpha(t.double()), self.noise(t), self.marginal(p0, t)
        logs = model.clamp_min(torch.finfo(model.dtype).tiny).log()
        b_x = pick(b, x_0)
        own = torch.xlogy(a + b_x, a + b_x) - torch.xlogy(b_x, b_x) + torch.xlogy(b, b).sum(-1)
        kl = own.to(logs.dtype) - a.to(logs.dtype) * pick(logs, x_0) - (b.to(logs.dtype) * logs).sum(-1)
        r = self._true(x_0, x_t, t).to(logs.dtype) / pick(model, x_t)
        return kl, r - r.log() - 1

    def _true(self, x_0: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        return torch.where(x_t == x_0, self.alpha(t.double()), 0.0) + pick(self.noise(t), x_t)


def pick(table: Tensor, tokens: Tensor) -> Tensor:
    """Float[B, L]: entries of Float[B, 1|L, V] at Long[B, L] `tokens`."""
    return table.expand(*tokens.shape, table.shape[-1]).gather(-1, tokens[..., None])[..., 0]
