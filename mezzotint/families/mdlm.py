"""MDLM: masked diffusion as a weighted masked-LM loss (Sahoo et al. 2024, arXiv 2406.07524).

Process   processes/absorbing.py; its schedules "loglinear", "cosine", "cosine squared", "linear" and "geometric" are
          Linear, Cosine, Cosine(power=2), Exponential and Geometric of schedules.py
Loss      eq. 10: -alpha'(t) / (1 - alpha(t)) times cross-entropy, on masked tokens only, a mean over all tokens;
          objectives/masked_bound.py computes it without the head of other columns; eq. 8 for T steps:
          objectives/discrete_time_bound.py
Network   sec. 3.2.3 (SUBS): no mass on [MASK], unmasked tokens carried over; needs no time input
Sampler   the posterior step, eq. 7: decode/rule.py `ancestral`; here its single steps, and SEDD's analytic one
Checked   tests/oracles/test_masked_bounds.py and tests/parity/test_mdlm*.py (the published code's losses and steps)
"""

from dataclasses import replace
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from mezzotint.config import config
from mezzotint.decode.canvas import Canvas, Step
from mezzotint.decode.rule import ancestral
from mezzotint.decode.shapers import Ban
from mezzotint.families.base import Family
from mezzotint.layouts import Full, Layout
from mezzotint.objectives.denoising import Denoising
from mezzotint.objectives.masked_bound import Bound, Masked, Weight, even
from mezzotint.objectives.times import Importance, Times, whole
from mezzotint.processes.absorbing import Absorbing
from mezzotint.rng import Rng, draw
from mezzotint.schedules import Linear, Schedule, complete

NEVER = -1e6
"""A log-probability whose exponential is zero in every precision."""


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

    def build(self, vocab: int, mask_id: int) -> Family:
        """The family over `vocab` ids, [MASK] included."""
        process = Absorbing(vocab, mask_id, self.schedule)
        made = mdlm(process, weight=even if self.weights == "even" else None)
        if self.importance and self.weights == "bound":
            times = Importance(whole, self.schedule)
            made = mdlm(process, times, weight=lambda t: torch.full_like(t, times.weight))
        # as published, times end at survival eps, and the last of the masks would not count
        return replace(made, bound=mdlm(Absorbing(vocab, mask_id, complete(self.schedule))).objective)


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
        return -at(subs(raw, x_t, mask_id), x_0) * weigh(t)

    never = Ban(torch.arange(process.vocab) == mask_id)
    backwards = ancestral(process.schedule, process.prior)

    def rule(raw: Tensor, canvas: Canvas, step: Step, rng: Rng) -> Canvas:
        return backwards(never(raw, canvas, step), canvas, step, rng)

    reference = Denoising(process, token_loss, times, layout)
    masked = Masked(reference, mask_id, weigh)
    return Family(process, masked, rule, chances=partial(step, process))


def subs(raw: Tensor, x_t: Tensor, mask_id: int) -> Tensor:
    """Logits Float[B, L, V] -> log p(x_0 | x_t), sec. 3.2.3; exactly zero for the token that is already revealed.

    What cannot be is at NEVER and not at -inf, so that 0 times it stays 0.
    """
    logp = banned(raw, x_t, mask_id)
    kept = torch.full_like(logp, NEVER).scatter_(-1, x_t[..., None], 0.0)
    return torch.where((x_t == mask_id)[..., None], logp, kept)


def banned(raw: Tensor, x_t: Tensor, mask_id: int) -> Tensor:
    """Half of SUBS, an ablation, Float[B, L, V]: no mass on [MASK], but revealed tokens are predicted anew."""
    return (raw + NEVER * (torch.arange(raw.shape[-1], device=raw.device) == mask_id)).log_softmax(-1)


def at(logp: Tensor, tokens: Tensor) -> Tensor:
    """Float[B, L]: the entries of Float[B, L, V] at `tokens`."""
    return logp.gather(-1, tokens[..., None])[..., 0]


def step(process: Absorbing, raw: Tensor, x_t: Tensor, t: Tensor, s: Tensor) -> Tensor:
    """Float[B, L, V]: eq. 7 with the network's prediction; one step of the `ddpm` samplers."""
    p0 = subs(raw, x_t, process.mask_id).exp()
    return process.posterior(p0, x_t, process.alpha(t), process.alpha(s))


def analytic(process: Absorbing, raw: Tensor, x_t: Tensor, t: Tensor, s: Tensor, rng: Rng) -> Tensor:
    """x_s, Long[B, L], by SEDD's analytic step on the scores that SUBS gives."""
    a_t, p0 = process.alpha(t), subs(raw, x_t, process.mask_id).exp()
    return draw(process.tweedie(process.scores(p0, x_t, a_t), x_t, a_t / process.alpha(s)).clamp_min(0), rng)
