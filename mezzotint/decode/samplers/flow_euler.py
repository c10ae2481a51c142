"""Euler sampler of discrete flow matching: jumps from noise to text by rates (2407.15595, sec. 3)."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from mezzotint.processes.mixture_path import MixturePath
from mezzotint.rng import Rng, draw

_GUESS, _JUMP, _TARGET = 1, 2, 3


def plain(raw: Tensor) -> Tensor:
    """The log softmax of logits Float[B, L, V]."""
    return raw.log_softmax(-1)


@dataclass(frozen=True)
class Euler:
    """One Euler step, (raw Float[B, L, V], x_t, t, s, rng) -> x_s, Long[B, L]; the last step writes the guess."""

    process: MixturePath
    churn: float | Callable[[Tensor], Tensor] = 0.0
    """c(t), a number or a function of our t."""
    read: Callable[[Tensor], Tensor] = plain
    """raw Float[B, L, V] -> log p(x_0 | x_t), of which guesses are drawn: nothing on ids that are never written."""
    pick: Callable[[Tensor, Rng], Tensor] = draw
    """How tokens are chosen by probability: (weights Float[B, L, V], rng) -> Long[B, L]."""

    def __call__(self, raw: Tensor, x_t: Tensor, t: Tensor, s: Tensor, rng: Rng) -> Tensor:
        guess, rates = self.plan(raw, x_t, t, rng)
        jump = self.jumping(rates, t, s, rng)
        x_s = torch.where(jump, self.pick(rates, rng.fork(_TARGET)), x_t)
        return torch.where(s <= 0, guess, x_s)

    def plan(self, raw: Tensor, x_t: Tensor, t: Tensor, rng: Rng) -> tuple[Tensor, Tensor]:
        """A guess of the clean tokens, Long[B, L], and the rates Float64[B, L, V] that lead there."""
        guess = self.pick(self.read(raw).exp(), rng.fork(_GUESS))
        churn = self.churn(t) if callable(self.churn) else self.churn
        return guess, self.process.jumps(guess, x_t, t, churn)

    def jumping(self, rates: Tensor, t: Tensor, s: Tensor, rng: Rng) -> Tensor:
        """Bool[B, L]: the columns that leave between t and s."""
        stay = torch.exp(-(t - s) * rates.sum(-1))
        return rng.fork(_JUMP).uniform(tuple(stay.shape), stay.device) < 1 - stay
