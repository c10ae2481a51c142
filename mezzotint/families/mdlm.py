"""MDLM: masked diffusion as a weighted masked-LM loss (Sahoo et al. 2024, arXiv 2406.07524).

Process   processes/absorbing.py; its schedules "loglinear", "cosine", "cosine squared", "linear" and "geometric" are
          Linear, Cosine, Cosine(power=2), Exponential and Geometric of schedules.py
Loss      eq. 10: -alpha'(t) / (1 - alpha(t)) times cross-entropy, on masked tokens only, a mean over all tokens;
          objectives/masked_bound.py computes it without the head of other columns; eq. 8 for T steps:
          objectives/discrete_time_bound.py
Network   sec. 3.2.3 (SUBS, processes/subs.py): no mass on [MASK], unmasked tokens carried over; needs no time input
Sampler   the posterior step, eq. 7: decode/rule.py `ancestral`; SEDD's analytic step; first hitting:
          decode/samplers/first_hitting.py
Checked   tests/oracles/test_masked_bounds.py and tests/parity/test_mdlm*.py (the published code's losses and steps)
"""

from dataclasses import replace
from functools import partial
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from mezzotint.config import config
from mezzotint.decode.canvas import Canvas, Step
from mezzotint.decode.rule import ancestral
from mezzotint.decode.samplers.first_hitting import one_by_one, revealing
from mezzotint.decode.samplers.time_grid import TimeGrid
from mezzotint.decode.shapers import Ban
from mezzotint.families.base import Family
from mezzotint.families.forms.tokens import Tokens
from mezzotint.layouts import Full, Layout
from mezzotint.objectives.base import Objective
from mezzotint.objectives.denoising import Denoising
from mezzotint.objectives.discrete_time_bound import DiscreteTimeBound
from mezzotint.objectives.masked_bound import Bound, Masked, Weight, even
from mezzotint.objectives.times import Importance, Times, whole
from mezzotint.processes.absorbing import Absorbing
from mezzotint.processes.subs import subs
from mezzotint.rng import Rng, draw
from mezzotint.schedules import Linear, Schedule, complete


@config
class MDLM:
    """Masked diffusion with SUBS and the continuous-time bound."""

    kind: Literal["mdlm"] = "mdlm"
    schedule: Schedule = Linear()
    importance: bool = False
    """Draw more small times, so that every masked token weighs the same, as MDLM's `importance_sampling`."""
    weights: Literal["bound", "even"] = "bound"
    """"even": train on the plain cross-entropy of masked tokens, whose gradients are far less noisy without the bound's
    1/t, so that a small network learns several times faster; `Family.bound` stays the bound."""
    steps: int | None = Field(default=None, gt=0)
    """The bound is that of a chain of this many steps (eq. 8); null: of continuous time."""
    sampler: Literal["ancestral", "analytic", "first-hitting"] = "ancestral"
    """Posterior steps, SEDD's, or one column per step at the time at which it is revealed (2409.02908)."""

    def build(self, vocab: int, mask_id: int) -> Family:
        """The family over `vocab` ids, [MASK] included."""
        process = Absorbing(vocab, mask_id, self.schedule)
        made = mdlm(process, weight=even if self.weights == "even" else None)
        if self.importance and self.weights == "bound":
            times = Importance(whole, self.schedule)
            made = mdlm(process, times, weight=lambda t: torch.full_like(t, times.weight))
        # as published, times end at survival eps, and the last of the masks would not count
        every = Absorbing(vocab, mask_id, complete(self.schedule))
        bound: Objective = mdlm(every).objective
        if self.steps is not None:
            bound = DiscreteTimeBound(every, partial(subs, mask_id=mask_id), self.steps)
            made = made if self.weights == "even" else replace(made, objective=bound)
        return replace(made, bound=bound, **self._sampled(process))

    def _sampled(self, process: Absorbing) -> dict[str, Any]:
        if self.sampler == "analytic":
            return {"rule": TimeGrid(partial(analytic, process))}
        if self.sampler == "first-hitting":
            rule = revealing(process.mask_id, lambda raw, x_t: subs(raw.double(), x_t, process.mask_id).exp())
            return {"rule": rule, "form": Tokens(process.prior, planned=one_by_one)}
        return {}


def mdlm(
    process: Absorbing,
    times: Times = whole,
    layout: Layout = Full(),  # noqa: B008 - without state
    weight: Weight | None = None,
) -> Family:
    """MDLM on a process; with times and layout per block it is BD3LM's objective (2503.09573).

    `weight` is what a masked column's cross-entropy counts for, the bound's if not given.
    """
    mask_id, weigh = process.mask_id, weight or Bound(process.schedule)

    def token_loss(raw: Tensor, x_0: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        raw = raw.to(torch.promote_types(raw.dtype, torch.float32))
        return -subs(raw, x_t, mask_id).gather(-1, x_0[..., None])[..., 0] * weigh(t)

    never = Ban(torch.arange(process.vocab) == mask_id)
    backwards = ancestral(process.schedule, process.prior)

    def rule(raw: Tensor, canvas: Canvas, step: Step, rng: Rng) -> Canvas:
        return backwards(never(raw, canvas, step), canvas, step, rng)

    reference = Denoising(process, token_loss, times, layout)
    masked = Masked(reference, mask_id, weigh)
    return Family(process, masked, rule, chances=partial(step, process))


def step(process: Absorbing, raw: Tensor, x_t: Tensor, t: Tensor, s: Tensor) -> Tensor:
    """Float[B, L, V]: eq. 7 with the network's prediction; one step of the `ddpm` samplers."""
    p0 = subs(raw, x_t, process.mask_id).exp()
    return process.posterior(p0, x_t, process.alpha(t), process.alpha(s))


def analytic(process: Absorbing, raw: Tensor, x_t: Tensor, t: Tensor, s: Tensor, rng: Rng) -> Tensor:
    """x_s, Long[B, L], by SEDD's analytic step on the scores that SUBS gives."""
    a_t, p0 = process.alpha(t), subs(raw, x_t, process.mask_id).exp()
    return draw(process.tweedie(process.scores(p0, x_t, a_t), x_t, a_t / process.alpha(s)).clamp_min(0), rng)
