"""Uniform noise: a token turns into any id with the same chance (D3PM, 2107.03006, App. A.2.1; UDLM, 2412.10193)."""

import torch
import torch.nn.functional as F
from torch import Tensor

from mezzotint.errors import VocabularyError
from mezzotint.processes.interpolating import Interpolating, pick
from mezzotint.rng import Rng
from mezzotint.schedules import Survival

_WHERE = 0x0A1F


class Uniform(Interpolating):
    """q(x_t | x_0) = alpha_t x_0 + (1 - alpha_t) / N over N ids, each column by itself."""

    limit: Tensor

    def __init__(self, vocab: int, schedule: Survival, never: int | None = None) -> None:
        """`vocab` counts every id; `never` is one that noise does not draw, a mask that the tokenizer has.

        Raises:
            VocabularyError: fewer than two ids to draw, or `never` is not one of the ids.
        """
        super().__init__()
        if never is not None and not 0 <= never < vocab:
            raise VocabularyError(f"cannot leave out the id {never}: the vocabulary has the ids 0 to {vocab - 1}")
        self.vocab, self.schedule, self.never = vocab, schedule, never
        self.ids = vocab - (never is not None)
        if self.ids < 2:
            raise VocabularyError(f"uniform noise needs at least two ids to draw from, not {self.ids}")
        limit = torch.full((vocab,), 1 / self.ids, dtype=torch.float64)
        if never is not None:
            limit[never] = 0
        self.register_buffer("limit", limit, persistent=False)

    def corrupt(self, x_0: Tensor, t: Tensor, rng: Rng) -> Tensor:
        """Long[B, L]: each token redrawn with probability 1 - alpha(t); it may be drawn again itself."""
        lost = rng.uniform(tuple(x_0.shape), x_0.device) < (1 - self.alpha(t))
        return torch.where(lost, self.prior((x_0.shape[0], x_0.shape[1]), x_0.device, rng), x_0)

    def prior(self, shape: tuple[int, int], device: torch.device | str | None, rng: Rng) -> Tensor:
        """Long[B, L], every id as likely as any other."""
        drawn = (rng.fork(_WHERE).uniform(shape, device) * self.ids).long()
        return drawn if self.never is None else drawn + (drawn >= self.never).long()

    def noise(self, t: Tensor) -> Tensor:
        """(1 - alpha_t) / N, Float64[B, 1|L, V]."""
        return (1 - self.alpha(t.double()))[..., None] * self.limit.to(t.device)

    def intensity(self, t: Tensor) -> Tensor:
        """-alpha' / (alpha N), Float64[B, 1|L, V]."""
        exact = t.double()
        return (-self.schedule.dalpha(exact) / self.alpha(exact))[..., None] * self.limit.to(t.device)

    def seen(self, raw: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """Logits Float[B, L, V] of p(x_0 | other columns) -> those of p(x_0 | x_t): times q(x_t | x_0)."""
        return raw + self._likelihood(x_t, t).to(raw.dtype)

    def alone(self, raw: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """The inverse of `seen`, Float[B, L, V]: what an ordinary posterior says without the column's own token."""
        return raw - self._likelihood(x_t, t).to(raw.dtype)

    def posterior(self, p0: Tensor, x_t: Tensor, a_t: Tensor, a_s: Tensor) -> Tensor:
        """q(x_t | x_s) q(x_s | p0) / q(x_t | p0) for s < t (UDLM, eq. 15).

        Args:
            p0: Float[B, L, V], probabilities of the clean token, the leave-one-out ones for exact steps; no mass on
                `never`.
            x_t: Long[B, L].
            a_t: Float[B, 1] or [B, L], survival at t; a_t < 1.
            a_s: as a_t, survival at s; at least a_t and above zero.

        Returns:
            Float[B, L, V]; rows sum to one where those of p0 do.
        """
        a_t, a_s = (a[..., None].to(p0.dtype) for a in (a_t, a_s))
        limit = self.limit.to(p0)
        kept = a_t / a_s
        arrives = kept * F.one_hot(x_t, self.vocab).to(p0.dtype) + (1 - kept) / self.ids
        here = pick(p0, x_t)[..., None]
        return arrives * (a_s * p0 + (1 - a_s) * limit) / (a_t * here + (1 - a_t) / self.ids)

    def _likelihood(self, x_t: Tensor, t: Tensor) -> Tensor:
        """log q(x_t | x_0) for every x_0, Float64[B, L, V]."""
        a = self.alpha(t.double())[..., None]
        # a schedule may have no digits left of 1 - alpha near the clean end
        return (a * F.one_hot(x_t, self.vocab) + (1 - a) / self.ids).clamp_min(1e-30).log()
