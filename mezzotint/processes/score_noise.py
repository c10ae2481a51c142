"""SEDD's noise: jumps to one fixed distribution at unit rate, and the same chain reversed by scores.

In total noise sigma, dp/dsigma = Q p with Q = limit 1^T - I: every token keeps itself with probability exp(-sigma) and
is a draw from `limit` otherwise.  Limit [MASK] is absorbing noise, the even one is uniform noise (SEDD, 2310.16834,
sec. 3.3).  Scores are the ratios p_t(y) / p_t(x) for all y that differ from x in one column.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class ScoreNoise:
    """Q = limit 1^T - I; x is Long[B, L], scores are Float[B, L, V] with 1 at the present token."""

    limit: Tensor
    """Float64[V], probabilities."""

    def out(self, x: Tensor, kept: Tensor) -> Tensor:
        """q(y | x) after noise that keeps a token with probability `kept` Float[B, 1|L], Float64[B, L, V]."""
        kept = kept.double()[..., None]
        return kept * self._one_hot(x) + (1 - kept) * self.limit.to(x.device)

    def into(self, x: Tensor, kept: Tensor) -> Tensor:
        """q(x | y) for every y that noise came from, Float64[B, L, V]."""
        kept = kept.double()[..., None]
        return kept * self._one_hot(x) + (1 - kept) * self.limit.to(x.device)[x][..., None]

    def rates_out(self, x: Tensor) -> Tensor:
        """Q's column of x: rates of leaving it for each y, Float64[B, L, V]; minus their sum at x itself."""
        return self.limit.to(x.device) - self._one_hot(x)

    def rates_into(self, x: Tensor) -> Tensor:
        """Q's row of x: rates of arriving from each y, Float64[B, L, V]."""
        return self.limit.to(x.device)[x][..., None] - self._one_hot(x)

    def rates_back(self, score: Tensor, x: Tensor) -> Tensor:
        """Reverse rates of leaving x for each y: Q(x, y) score(y); minus their sum at x (SEDD, eq. 4)."""
        rates = (self.rates_into(x).to(score.dtype) * score).scatter(-1, x[..., None], 0.0)
        return rates.scatter(-1, x[..., None], -rates.sum(-1, keepdim=True))

    def euler(self, score: Tensor, x: Tensor, added: Tensor) -> Tensor:
        """One first-order step back over `added` = dt sigma'(t), Float[B, 1|L]; entries can be negative (eq. 17)."""
        return self._one_hot(x).to(score.dtype) + added[..., None].to(score.dtype) * self.rates_back(score, x)

    def before(self, score: Tensor, kept: Tensor) -> Tensor:
        """exp(-dsigma Q) score with `kept` = exp(-dsigma): p_s(y) / p_t(x) if only this column had noise."""
        kept = kept[..., None].to(score.dtype)
        return score / kept + self.limit.to(score) * ((1 - 1 / kept) * score.sum(-1, keepdim=True))

    def tweedie(self, score: Tensor, x: Tensor, kept: Tensor) -> Tensor:
        """q(x_s | x_t) from scores, exact for one column (SEDD, Theorem 4.2).

        Rows need not sum to one where the scores are not exact, and entries can then be negative.
        """
        return self.before(score, kept) * self.into(x, kept).to(score.dtype)

    def scores(self, p0: Tensor, x: Tensor, a: Tensor) -> Tensor:
        """p_t(y) / p_t(x) from x_0 ~ p0 and survival a Float[B, 1|L], Float[B, L, V].

        Exact for leave-one-out p0; where x is not noise at all, every clean token it may come from is itself.
        """
        q = a[..., None].to(p0.dtype) * p0 + (1 - a)[..., None].to(p0.dtype) * self.limit.to(p0)
        return q / q.gather(-1, x[..., None])

    def entropy(self, log_score: Tensor, x_0: Tensor, x: Tensor, a: Tensor) -> Tensor:
        """Denoising score entropy per unit of total noise, Float[B, L] (SEDD, eq. 5 and App. B).

        sum over y != x of Q(x, y) (exp(s_y) - r_y s_y + r_y (log r_y - 1)), r_y = q(y | x_0) / q(x | x_0); s is 0 at
        the present token.  With exact scores its integral over sigma is -log p(x_0): it is not zero at the optimum.
        """
        a = a.double()
        limit = self.limit.to(x.device)
        moved, back = limit[x], limit[x_0]
        same = x == x_0
        present = torch.where(same, a, 0.0) + (1 - a) * moved
        # r_y is c limit_y, and more by `extra` at the clean token
        c, extra = (1 - a) / present, torch.where(same, 0.0, a / present)
        s = log_score.scatter(-1, x[..., None], 0.0)
        positive = s.exp().sum(-1) - 1
        s_0 = s.gather(-1, x_0[..., None])[..., 0]
        negative = c.to(s.dtype) * (s * limit.to(s)).sum(-1) + extra.to(s.dtype) * s_0
        whole = torch.xlogy(c, c) - c + c * torch.xlogy(limit, limit).sum()
        swapped = torch.where(same, 0.0, _f(c * back + extra) - _f(c * back))
        constant = whole - _f(c * moved) + swapped
        return torch.where(moved > 0, moved.to(s.dtype) * (positive - negative + constant.to(s.dtype)), 0.0)

    def _one_hot(self, x: Tensor) -> Tensor:
        return F.one_hot(x, len(self.limit)).double()


def _f(r: Tensor) -> Tensor:
    return torch.xlogy(r, r) - r


def masking(vocab: int, mask_id: int) -> ScoreNoise:
    """Everything turns into [MASK]; `vocab` counts it."""
    return ScoreNoise(F.one_hot(torch.tensor(mask_id), vocab).double())


def spreading(vocab: int, never: int | None = None) -> ScoreNoise:
    """Everything turns into any of the ids but `never`."""
    limit = torch.ones(vocab, dtype=torch.float64)
    if never is not None:
        limit[never] = 0
    return ScoreNoise(limit / limit.sum())
