"""DiffusionBERT: D3PM's absorbing chain, rare words first, from a pretrained encoder (He et al. 2022, 2211.15029).

Process   processes/spindle.py: eq. 7 with the paper's ease (`Information`) or the code's (`Frequency`)
Loss      objectives/diffusion_bert.py: D3PM's eq. 5 at one t of 1 .. T, -log p(x_0 | x_1) at t = 1, plus weight times
          -log p(x_0 | x_t); as published both posteriors know x_0's survivals, so it trains and is no bound
Network   p(x_0 | x_t) without the time (sec. 3.2, "TAD"); denoisers/networks/bert.py starts it from a published encoder
Bound     ours: from the exact posterior to a step that knows only the network, whose every candidate has the survival
          it would have beside the network's likeliest tokens
Sampler   that step (`Exact`), or the published one, which takes the likeliest tokens' survivals and the average step
          (`PublishedLoss`), its last step the likeliest (`greedy_end`)
Differs   [MASK] gets no probability (`never`): the paper leaves that to training
Checked   tests/parity/test_diffusionbert.py (recorded vectors), tests/families/test_diffusion_bert.py
"""

from dataclasses import dataclass, replace
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from mezzotint.config import config
from mezzotint.decode.samplers.time_grid import TimeGrid as GridRule
from mezzotint.families.base import Family, log_p
from mezzotint.objectives.denoising import Denoising
from mezzotint.objectives.diffusion_bert import DiffusionBERTLoss, before
from mezzotint.objectives.times import DiscreteTimes, whole
from mezzotint.processes.markov.by_name import occurrences
from mezzotint.processes.spindle import Frequency, Information, Spindle
from mezzotint.rng import Rng, draw


@config
class DiffusionBERT:
    """The spindle over a vocabulary whose frequencies are known."""

    kind: Literal["diffusion_bert"] = "diffusion_bert"
    counts: tuple[int, ...] = ()
    """How often each id, [MASK] included, is in the data; without them all are equally easy."""
    form: Literal["code", "paper"] = "code"
    """Which of the two published forms of the schedule."""
    strength: float = Field(default=0.3, ge=0)
    """How far rare and frequent tokens are apart: the schedule's lambda."""
    steps: int = Field(default=2048, gt=1)
    weight: float = Field(default=0.01, ge=0)
    """Of the cross-entropy in the loss: D3PM's lambda."""
    sampler: Literal["exact", "published"] = "exact"

    def counted(self, ids: Tensor, vocab: int) -> "DiffusionBERT":
        """With the occurrences of every id in a text Long[N], if they are not given."""
        return self if self.counts else replace(self, counts=occurrences(ids, vocab))

    def build(self, vocab: int, mask_id: int) -> Family:
        """The family over `vocab` ids, [MASK] included."""
        counts = torch.tensor(self.counts or (0,) * vocab)
        ease = {"code": Frequency, "paper": Information}[self.form](counts)
        process = Spindle(vocab, mask_id, ease, self.strength)
        step = {"exact": Exact, "published": PublishedLoss}[self.sampler](process, mask_id)
        return diffusion_bert(process, self.steps, self.weight, step, never=mask_id)


def diffusion_bert(
    process: Spindle, steps: int, weight: float, step: "Exact | PublishedLoss", *, never: int | None = None
) -> Family:
    """DiffusionBERT over a process, with T = `steps` and one of its two samplers."""
    grid = DiscreteTimes(whole, steps)

    def read(raw: Tensor) -> Tensor:
        return log_p(raw, never).exp()

    def bound(raw: Tensor, x_0: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        return steps * process.cost(read(raw), x_0, x_t, t, before(t, steps))

    loss = Denoising(process, DiffusionBERTLoss(process, steps, weight, read), grid)
    return Family(process, loss, GridRule(step), bound=Denoising(process, bound, grid))


@dataclass(frozen=True)
class Exact:
    """One step of the sampler, (raw, x_t, t, s, rng) -> x_s, Long[B, L], that knows every candidate's survival."""

    process: Spindle
    never: int | None = None

    def __call__(self, raw: Tensor, x_t: Tensor, t: Tensor, s: Tensor, rng: Rng) -> Tensor:
        return draw(self.process.chances(log_p(raw, self.never).exp(), x_t, t, s), rng)


@dataclass(frozen=True)
class PublishedLoss:
    """The same as the code takes it, Long[B, L], with the survivals of the likeliest tokens and the average step."""

    process: Spindle
    never: int | None = None
    greedy_end: bool = True

    def __call__(self, raw: Tensor, x_t: Tensor, t: Tensor, s: Tensor, rng: Rng) -> Tensor:
        p0 = log_p(raw, self.never).exp()
        p = self.process.back(p0, x_t, self.process.alpha(s, p0.argmax(-1)), s, t)
        drawn = draw(p, rng)
        return torch.where(s <= 0, p.argmax(-1), drawn) if self.greedy_end else drawn
