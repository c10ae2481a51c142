"""Logits to logits, before a proposal is made.

A shaper maps (logits Float[B, W, V], canvas, step) to Float[B, W, V] and fills with -inf what may not be written; it
always leaves a column its best token.  Numbers may be floats or Float[B, 1] tensors, one per request.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor

from mezzotint.decode.canvas import Canvas, Step
from mezzotint.decode.propose import Draw, NoiseSource, Propose, Score, likeliest, probable, wide

Shaper = Callable[[Tensor, Canvas, Step], Tensor]


class Filter(Protocol):
    """A shaper that asks for nothing but the logits."""

    def __call__(self, logits: Tensor, canvas: Canvas, step: Step) -> Tensor:
        """As a shaper, on logits Float[B, W, V]."""
        ...

    def filtered(self, logits: Tensor) -> Tensor:
        """Float[B, W, V]."""
        ...


@dataclass(frozen=True)
class Temperature:
    """logits / value, Float[B, W, V]; at 0 the best token keeps all probability (ties: the lowest id)."""

    value: float | Tensor

    def __call__(self, logits: Tensor, canvas: Canvas, step: Step) -> Tensor:
        return self.filtered(logits)

    def filtered(self, logits: Tensor) -> Tensor:
        """The same, asked without a canvas."""
        value = torch.as_tensor(wide(self.value), dtype=logits.dtype, device=logits.device)
        best = logits.argmax(-1, keepdim=True)
        only = torch.full_like(logits, -torch.inf).scatter(-1, best, logits.gather(-1, best))
        return torch.where(value > 0, logits / value.clamp_min(torch.finfo(logits.dtype).tiny), only)


@dataclass(frozen=True)
class TopP:
    """The fewest tokens, likeliest first, that together hold at least probability `p` (1904.09751); Float[B, W, V]."""

    p: float | Tensor

    def __call__(self, logits: Tensor, canvas: Canvas, step: Step) -> Tensor:
        return self.filtered(logits)

    def filtered(self, logits: Tensor) -> Tensor:
        """The same, asked without a canvas."""
        ordered, ids = logits.sort(dim=-1, descending=True, stable=True)
        chance = ordered.softmax(-1)
        # a token stays when those before it have not reached p yet
        drop = (chance.cumsum(-1) - chance) >= wide(self.p)
        drop[..., 0] = False
        return logits.masked_fill(torch.zeros_like(drop).scatter(-1, ids, drop), -torch.inf)


@dataclass(frozen=True)
class TopK:
    """The `k` likeliest tokens of Float[B, W, V]; ties go to the lowest id."""

    k: int | Tensor

    def __call__(self, logits: Tensor, canvas: Canvas, step: Step) -> Tensor:
        return self.filtered(logits)

    def filtered(self, logits: Tensor) -> Tensor:
        """The same, asked without a canvas."""
        order = logits.argsort(dim=-1, descending=True, stable=True).argsort(dim=-1)
        return logits.masked_fill((order >= wide(self.k)) & (order > 0), -torch.inf)


@dataclass(frozen=True)
class Beside:
    """A proposal from shaped logits, scored by the logits as they were: LLaDA's confidence under a temperature.

    Logits Float[B, W, V] give tokens and scores [B, W].
    """

    propose: Propose
    filters: tuple[Filter, ...]
    score: Score = probable

    def __call__(self, logits: Tensor, rng: NoiseSource) -> tuple[Tensor, Tensor]:
        shaped = logits
        for each in self.filters:
            shaped = each.filtered(shaped)
        tokens, _ = self.propose(shaped, rng)
        return tokens, self.score(logits, tokens)


@dataclass(frozen=True)
class Ban:
    """Tokens that may not be written: the mask token, padding rows of the vocabulary, suppressed end tokens.

    Of logits Float[B, W, V].
    """

    banned: Tensor
    """Bool[V], or Bool[B, V] for one list per request."""

    def __call__(self, logits: Tensor, canvas: Canvas, step: Step) -> Tensor:
        return self.filtered(logits)

    def filtered(self, logits: Tensor) -> Tensor:
        """The same, asked without a canvas."""
        if self.banned.dim() == 1:
            return logits.index_fill(-1, self._ids, -torch.inf)
        return logits.masked_fill(self.banned[:, None], -torch.inf)

    @contextmanager
    def within(self, logits: Tensor) -> Iterator[Tensor]:
        """The same for as long as the context lasts.

        A copy of all logits takes longer than to look for the best of them, so the banned ones are written over where
        they stand, and put back at the end.
        """
        guarded = logits.requires_grad or (logits.is_inference() and not torch.is_inference_mode_enabled())
        repeated = any(size > 1 and step == 0 for size, step in zip(logits.shape, logits.stride(), strict=True))
        if guarded or repeated or self.banned.dim() > 1:
            yield self.filtered(logits)
            return
        kept = logits.index_select(-1, self._ids)
        logits.index_fill_(-1, self._ids, -torch.inf)
        try:
            yield logits
        finally:
            logits.index_copy_(-1, self._ids, kept)

    @cached_property
    def _ids(self) -> Tensor:
        """Long[n]: a few places are filled much faster than a mask over the vocabulary is applied."""
        return self.banned.nonzero()[:, 0]


@dataclass(frozen=True)
class Repetition:
    """Tokens that this request has written lose: z / penalty if positive, z penalty if negative (1909.05858).

    On logits Float[B, W, V].
    """

    penalty: float | Tensor = 1.1

    def __call__(self, logits: Tensor, canvas: Canvas, step: Step) -> Tensor:
        written = (~canvas.open & ~canvas.fixed).to(logits.dtype)
        seen = logits.new_zeros(logits.shape[0], logits.shape[-1]).scatter_add(-1, canvas.tokens, written)
        penalty = wide(self.penalty)
        lowered = torch.where(logits > 0, logits / penalty, logits * penalty)
        return torch.where((seen > 0)[:, None], lowered, logits)


def tempered(temperature: float, top_p: float = 1.0) -> Propose:
    """Draws at a temperature among the likeliest tokens, scored by the logits as they were; 0 is the argmax."""
    if not temperature:
        return likeliest
    filters: tuple[Filter, ...] = (Temperature(temperature),)
    return Beside(Draw(1.0), filters if top_p == 1 else (*filters, TopP(top_p)))
