"""Absorbing noise: a token turns into [MASK] once and stays there (D3PM, 2107.03006, App. A.2.2; MDLM, 2406.07524)."""

import torch
import torch.nn.functional as F
from torch import Tensor

from mezzotint.errors import VocabularyError
from mezzotint.processes.base import Discrete
from mezzotint.rng import Rng
from mezzotint.schedules import Survival


class Absorbing(Discrete):
    """q(x_t | x_0) = alpha_t x_0 + (1 - alpha_t) [MASK], each column by itself."""

    def __init__(self, vocab: int, mask_id: int, schedule: Survival) -> None:
        """`vocab` counts every id, [MASK] included.

        Raises:
            VocabularyError: `mask_id` is not one of the ids.
        """
        super().__init__()
        if not 0 <= mask_id < vocab:
            raise VocabularyError(
                f"cannot use {mask_id} as the mask token: the vocabulary has the ids 0 to {vocab - 1}"
            )
        self.vocab, self.mask_id, self.schedule = vocab, mask_id, schedule

    def corrupt(self, x_0: Tensor, t: Tensor, rng: Rng) -> Tensor:
        """Long[B, L]: each token replaced by [MASK] with probability 1 - alpha(t)."""
        gone = rng.uniform(tuple(x_0.shape), x_0.device) < (1 - self.alpha(t))
        return x_0.masked_fill(gone, self.mask_id)

    def prior(self, shape: tuple[int, int], device: torch.device | str | None, rng: Rng | None = None) -> Tensor:
        """Long[B, L], all [MASK]."""
        return torch.full(shape, self.mask_id, device=device)

    def posterior(self, p0: Tensor, x_t: Tensor, a_t: Tensor, a_s: Tensor) -> Tensor:
        """q(x_s | x_t), averaged over x_0 ~ p0, for s < t (MDLM, 2406.07524, eq. 7).

        A masked token is revealed with probability (a_s - a_t) / (1 - a_t), as a draw from p0; a revealed token
        never changes.

        Args:
            p0: Float[B, L, V], probabilities of the clean token; no mass on [MASK].
            x_t: Long[B, L], the noisy tokens.
            a_t: Float[B, 1] or [B, L], survival at t; a_t < 1.
            a_s: as a_t, survival at s; a_s >= a_t.

        Returns:
            Float[B, L, V]; rows sum to one where those of p0 do.
        """
        here = F.one_hot(x_t, self.vocab).to(p0.dtype)
        revealed = ((a_s - a_t) / (1 - a_t))[..., None].to(p0.dtype)
        masked = (x_t == self.mask_id)[..., None]
        return torch.where(masked, revealed * p0 + (1 - revealed) * here, here)

    def remasked(self, p0: Tensor, x_t: Tensor, a_t: Tensor, a_s: Tensor, sigma: Tensor) -> Tensor:
        """ReMDM's q(x_s | x_t), averaged over x_0 ~ p0: a revealed token may be masked again (2503.00307, sec. 3).

        A revealed token is masked with probability sigma; a masked one is revealed with probability
        (a_s - (1 - sigma) a_t) / (1 - a_t), as a draw from p0.  For every sigma up to min(1, (1 - a_s) / a_t) the
        marginals are those of the masked process; sigma = 0 is `posterior`.  a_s = a_t walks at a constant level.

        Args:
            p0: Float[B, L, V]; one-hot where x_t is revealed, no mass on [MASK].
            x_t: Long[B, L].
            a_t: Float[B, 1] or [B, L], below one.
            a_s: as a_t, at least a_t.
            sigma: Float[B, 1] or [B, L].

        Returns:
            Float[B, L, V]; rows sum to one where those of p0 do.
        """
        here = F.one_hot(torch.full_like(x_t, self.mask_id), self.vocab).to(p0.dtype)
        chance = torch.where(x_t == self.mask_id, (a_s - (1 - sigma) * a_t) / (1 - a_t), 1 - sigma)[..., None]
        return chance.to(p0.dtype) * p0 + (1 - chance).to(p0.dtype) * here

    def scores(self, p0: Tensor, x_t: Tensor, a_t: Tensor) -> Tensor:
        """p_t(y) / p_t(x_t) for every y that differs from x_t in one column, Float[B, L, V], from x_0 ~ p0.

        1 at the present token; a masked column scores p0 a_t / (1 - a_t), a revealed one (1 - a_t) / a_t for [MASK] and
        0 elsewhere (SEDD, 2310.16834, eq. 3; MDLM's code for its analytic sampler).
        """
        odds = ((1 - a_t) / a_t)[..., None].to(p0.dtype)
        mask = torch.arange(self.vocab, device=x_t.device) == self.mask_id
        revealed = F.one_hot(x_t, self.vocab).to(p0.dtype) + mask * odds
        return torch.where((x_t == self.mask_id)[..., None], torch.where(mask, 1.0, p0 / odds), revealed)

    def tweedie(self, score: Tensor, x_t: Tensor, kept: Tensor) -> Tensor:
        """q(x_s | x_t) from the scores p_t(y) / p_t(x_t), exact for one column (SEDD, 2310.16834, Theorem 4.2).

        Args:
            score: Float[B, L, V], 1 at the present token.
            x_t: Long[B, L].
            kept: Float[B, 1] or [B, L], a_t / a_s: the chance of surviving from s to t.

        Returns:
            Float[B, L, V], which need not sum to one where the scores are not exact; entries can be negative.
        """
        kept = kept[..., None]
        mask = torch.arange(self.vocab, device=x_t.device) == self.mask_id
        # exp(-dsigma Q) score: what is not [MASK] grows, and [MASK] pays for it
        before = score / kept + mask * ((1 - 1 / kept) * score.sum(-1, keepdim=True))
        here = F.one_hot(x_t, self.vocab).to(score.dtype)
        return before * (kept * here + (1 - kept) * (x_t == self.mask_id)[..., None])
