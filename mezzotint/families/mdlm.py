"""MDLM: masked diffusion as a weighted masked-LM loss (Sahoo et al. 2024, arXiv 2406.07524).

Process   processes/absorbing.py
Loss      eq. 10: -alpha'(t) / (1 - alpha(t)) times cross-entropy, on masked tokens only, a mean over all tokens
Network   sec. 3.2.3 (SUBS): no mass on [MASK], unmasked tokens carried over; needs no time input
Sampler   the posterior step: decode/rule.py `ancestral`
Checked   tests/parity/test_mdlm.py: with exact conditionals the bound is -log p of every sequence
"""

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
from mezzotint.objectives.times import Times, whole
from mezzotint.processes.absorbing import Absorbing
from mezzotint.rng import Rng
from mezzotint.schedules import Linear, Schedule

NEVER = -1e6
"""A log-probability whose exponential is zero in every precision."""


@config
class MDLM:
    """Masked diffusion with SUBS and the continuous-time bound."""

    kind: Literal["mdlm"] = "mdlm"
    schedule: Schedule = Linear()

    def build(self, vocab: int, mask_id: int) -> Family:
        """The family over `vocab` ids, [MASK] included."""
        return mdlm(Absorbing(vocab, mask_id, self.schedule))


def mdlm(process: Absorbing, times: Times = whole, layout: Layout = Full()) -> Family:  # noqa: B008 - without state
    """MDLM on a process; with times and layout per block it is BD3LM's objective (2503.09573)."""
    schedule, mask_id = process.schedule, process.mask_id

    def token_loss(raw: Tensor, x_0: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        raw = raw.to(torch.promote_types(raw.dtype, torch.float32))
        nll = -at(subs(raw, x_t, mask_id), x_0)
        return nll * (-schedule.dalpha(t) / (1 - schedule.alpha(t)))

    never = Ban(torch.arange(process.vocab) == mask_id)
    backwards = ancestral(schedule, process.prior)

    def rule(raw: Tensor, canvas: Canvas, step: Step, rng: Rng) -> Canvas:
        return backwards(never(raw, canvas, step), canvas, step, rng)

    return Family(process, Denoising(process, token_loss, times, layout), rule)


def subs(raw: Tensor, x_t: Tensor, mask_id: int) -> Tensor:
    """Logits Float[B, L, V] -> log p(x_0 | x_t), sec. 3.2.3; exactly zero for the token that is already revealed.

    What cannot be is at NEVER and not at -inf, so that 0 times it stays 0.
    """
    never = NEVER * (torch.arange(raw.shape[-1], device=raw.device) == mask_id)
    logp = (raw + never).log_softmax(-1)
    kept = torch.full_like(logp, NEVER).scatter_(-1, x_t[..., None], 0.0)
    return torch.where((x_t == mask_id)[..., None], logp, kept)


def at(logp: Tensor, tokens: Tensor) -> Tensor:
    """Float[B, L]: the entries of Float[B, L, V] at `tokens`."""
    return logp.gather(-1, tokens[..., None])[..., 0]
