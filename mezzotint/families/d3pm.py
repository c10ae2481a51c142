"""D3PM: discrete diffusion by Markov chains of T steps (Austin et al. 2021, arXiv 2107.03006).

Process   processes/markov/process.py over processes/markov/chain.py; all chains: processes/markov/by_name.py
Loss      eq. 5: KL(q(x_{t-1} | x_t, x_0), p(x_{t-1} | x_t)) at one t of 1 .. T, -log p(x_0 | x_1) at t = 1, plus
          weight times -log p(x_0 | x_t) at that t.  Ours: `even`, cross-entropy alone
Network   p(x_0 | x_t), plugged in for x_0 (eq. 4, "x0-parameterisation"); conditioned on t
Bound     T times the first part of the loss, plus what starting from the prior costs (eq. 1)
Sampler   the same posterior, over one step of the chain or several; the end is a draw, the likeliest tokens in print
Differs   [MASK] gets no probability (`never`): the paper leaves that to training, and a trace leaves masks in texts
Checked   tests/parity/test_d3pm_*.py (recorded vectors), tests/families/test_d3pm.py
"""

from dataclasses import dataclass, replace
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from mezzotint.config import config
from mezzotint.decode.samplers.time_grid import TimeGrid as GridRule
from mezzotint.families.base import Family, informed, log_p
from mezzotint.objectives.denoising import Denoising
from mezzotint.objectives.times import DiscreteTimes, whole
from mezzotint.processes.markov import by_name
from mezzotint.processes.markov.chain import MarkovChain
from mezzotint.processes.markov.process import Chained
from mezzotint.rng import Rng, draw


@config
class D3PM:
    """A chain by name; any other one goes to `d3pm`."""

    kind: Literal["d3pm"] = "d3pm"
    transition: Literal["absorbing", "uniform", "gaussian", "band", "neighbours"] = "absorbing"
    """Where a step leads: to [MASK], anywhere, to ids near in order, or to ids near in use."""
    table: Literal["standard", "cosine", "linear", "information"] = "standard"
    """How often steps act; "information": so that each takes as much of what is known about the text."""
    steps: int = Field(default=1000, gt=1)
    high: float = Field(default=0.02, gt=0, lt=1)
    """Noise of the last step of a linear table."""
    width: int = Field(default=5, gt=1)
    """Ids within a band, or neighbours of an id."""
    weight: float = Field(default=0.01, ge=0)
    """Of the cross-entropy in the loss: lambda; 0 for uniform noise in print."""
    weights: Literal["hybrid", "even"] = "hybrid"
    """"even": cross-entropy alone, of the network's answer times q(x_t | x_0), as UDLM's."""
    counts: tuple[int, ...] = ()
    """Occurrences of every id, for "information"; the text's, where there are none."""
    nearest: tuple[tuple[int, ...], ...] = ()
    """Neighbours of every id, by any embeddings (`nearest` of processes/markov/transition_matrices.py); the text's,
    where there are none."""

    def counted(self, ids: Tensor, vocab: int) -> "D3PM":
        """With what the chain needs to know of a text Long[N]."""
        counts = self.counts or (by_name.occurrences(ids, vocab) if self.table == "information" else ())
        near = self.nearest or (by_name.alike(ids, vocab, self.width) if self.transition == "neighbours" else ())
        return replace(self, counts=counts, nearest=near)

    def build(self, vocab: int, mask_id: int) -> Family:
        """The family over `vocab` ids, [MASK] included."""
        process = Chained(self._chain(vocab, mask_id))
        family = d3pm(process, self.weight, never=mask_id)
        alone = Denoising(process, informed(process.seen, mask_id), DiscreteTimes(whole, self.steps))
        return family if self.weights == "hybrid" else replace(family, objective=alone)

    def _chain(self, vocab: int, mask_id: int) -> MarkovChain:
        if self.table == "information":
            return by_name.even_loss(self.transition, self.counts or (0,) * vocab, self.nearest, self.steps, mask_id)
        beta = by_name.betas(self.table, self.steps, self.high)
        return by_name.chain(self.transition, beta, vocab, mask_id, self.width, self.nearest)


def d3pm(process: Chained, weight: float = 0.01, *, never: int | None = None) -> Family:
    """D3PM on any chain; `never` is an id that the network may not predict."""
    loss, grid = HybridLoss(process, weight, never), DiscreteTimes(whole, process.chain.steps)

    def bound(raw: Tensor, x_0: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        return grid.steps * loss.step(raw, x_0, x_t, t) + process.missed(x_0).to(raw.dtype)

    def update(raw: Tensor, x_t: Tensor, t: Tensor, s: Tensor, rng: Rng) -> Tensor:
        return draw(process.back(log_p(raw, never).exp(), x_t, s, t).softmax(-1), rng)

    return Family(process, Denoising(process, loss, grid), GridRule(update), bound=Denoising(process, bound, grid))


@dataclass(frozen=True)
class HybridLoss:
    """(raw, x_0, x_t, t) -> nats Float[B, L], eq. 5."""

    process: Chained
    weight: float
    never: int | None = None
    direct: bool = False
    """-log p(x_0 | x_1) by the network's own p (image code), not by the posterior with it (text code)."""

    def __call__(self, raw: Tensor, x_0: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        return self.step(raw, x_0, x_t, t) + self.weight * self.cross_entropy(raw, x_0)

    def step(self, raw: Tensor, x_0: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """The first part of eq. 5, nats Float[B, L]: the KL, or `end` where a sequence is at t = 1."""
        return torch.where(t * self.process.chain.steps < 1.5, self.end(raw, x_0, x_t, t), self.kl(raw, x_0, x_t, t))

    def kl(self, raw: Tensor, x_0: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """KL(q(x_{t-1} | x_t, x_0), p(x_{t-1} | x_t))."""
        s, p0 = t - 1 / self.process.chain.steps, log_p(raw, self.never).exp()
        true = self.process.back(self.process.clean(x_0, p0.dtype), x_t, s, t).log_softmax(-1)
        return (true.exp() * (true - self.process.back(p0, x_t, s, t).log_softmax(-1))).sum(-1).clamp_min(0)

    def end(self, raw: Tensor, x_0: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """-log p(x_0 | x_1)."""
        logp = log_p(raw, self.never)
        if not self.direct:
            logp = self.process.back(logp.exp(), x_t, torch.zeros_like(t), t).log_softmax(-1)
        return -logp.gather(-1, x_0[..., None])[..., 0]

    def cross_entropy(self, raw: Tensor, x_0: Tensor) -> Tensor:
        """-log p(x_0 | x_t)."""
        return -log_p(raw, self.never).gather(-1, x_0[..., None])[..., 0]
