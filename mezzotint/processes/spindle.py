"""Absorbing noise that takes rare words first: DiffusionBERT's spindle schedule (2211.15029, sec. 3.1).

    alpha = clip(1 - t + strength sin(pi t) ease(x_0), 0, ceiling),   1 at t = 0

`ease` says how much longer than the average of its sequence a token survives.  The paper and its code differ in it:
`Information` is the paper's -H~, `Frequency` the code's; they agree in direction, not in value.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mezzotint.errors import VocabularyError
from mezzotint.processes.base import Discrete
from mezzotint.processes.markov.chain import mask
from mezzotint.rng import Rng

_LEAST = 1e-6


class Ease(nn.Module, ABC):
    """Long[B, L] tokens -> Float64[B, L], the ease of each beside the rest of its sequence.

    `fixed` stands for what is otherwise taken from the sequence itself, so that the ease of a token is its own.
    """

    value: Tensor
    """Float64[V], what the ease of an id is made of."""

    def __init__(self, value: Tensor, fixed: float | None = None) -> None:
        super().__init__()
        self.register_buffer("value", value.double())
        self.fixed = fixed

    def forward(self, x_0: Tensor) -> Tensor:
        return self.beside(self.value[x_0], self.centre(x_0))

    def centre(self, x_0: Tensor) -> Tensor:
        """Float64[B, 1]: the mean of a sequence's values."""
        mean = self.value[x_0].mean(-1, keepdim=True)
        return mean if self.fixed is None else torch.full_like(mean, self.fixed)

    @abstractmethod
    def beside(self, value: Tensor, centre: Tensor) -> Tensor:
        """The ease of tokens with `value` in a sequence with `centre`; the shapes broadcast."""


class Frequency(Ease):
    """The code's form: log(count + 1) over its largest, minus its mean over the sequence; 0 at `pad_id`."""

    def __init__(self, counts: Tensor, pad_id: int | None = None, fixed: float | None = None) -> None:
        value = (counts.double() + 1).log()
        value = value / value.max().clamp_min(_LEAST)
        if pad_id is not None:
            value[pad_id] = 0
        super().__init__(value, fixed)

    def beside(self, value: Tensor, centre: Tensor) -> Tensor:
        return value - centre


class Information(Ease):
    """The paper's form, -H~ of eq. 7: the mean of H = -log p over the sequence divided by the token's H, minus one.

    p comes from counts, one added to each, so that ids that never occur are rare and not impossible.
    """

    def __init__(self, counts: Tensor, fixed: float | None = None) -> None:
        p = (counts.double() + 1) / (counts.double() + 1).sum()
        super().__init__(-p.log(), fixed)

    def beside(self, value: Tensor, centre: Tensor) -> Tensor:
        return centre / value.clamp_min(_LEAST) - 1


class Spindle(Discrete):
    """q(x_t | x_0) = alpha x_0 + (1 - alpha) [MASK] with the survival of each column's token.

    Args:
        vocab: every id, [MASK] included.
        mask_id: [MASK].
        ease: how much longer than others a token survives.
        strength: lambda; 0 is the absorbing process with even survival.
        ceiling: the most that survives at t > 0.

    Raises:
        VocabularyError: `mask_id` is not one of the ids, or `ease` is of another vocabulary.
    """

    stationary: Tensor

    def __init__(self, vocab: int, mask_id: int, ease: Ease, strength: float = 0.3, ceiling: float = 0.999) -> None:
        super().__init__()
        if len(ease.value) != vocab:
            raise VocabularyError(
                f"cannot noise {vocab} ids by the frequencies of {len(ease.value)}: count every id, [MASK] included"
            )
        self.register_buffer("stationary", mask(vocab, mask_id))
        self.vocab, self.mask_id, self.ease = vocab, mask_id, ease
        self.strength, self.ceiling = strength, ceiling

    def base(self, t: Tensor) -> Tensor:
        """1 - t, Float64 of the shape of t: survival of a token of average ease."""
        return 1 - t.double()

    def swell(self, t: Tensor) -> Tensor:
        """strength sin(pi t), Float64 of the shape of t: how far survivals are apart."""
        return self.strength * torch.sin(math.pi * t.double())

    def survival(self, t: Tensor, ease: Tensor) -> Tensor:
        """Float64: alpha at t of tokens of given ease; the shapes broadcast."""
        alpha = (self.base(t) + self.swell(t) * ease).clamp(0, self.ceiling)
        return torch.where(t <= 0, 1.0, alpha)

    def alpha(self, t: Tensor, x_0: Tensor | None = None) -> Tensor:
        """Float64[B, L], or that of average tokens, Float64[B, 1], without `x_0`."""
        return self.survival(t, torch.zeros_like(t, dtype=torch.float64) if x_0 is None else self.ease(x_0))

    def corrupt(self, x_0: Tensor, t: Tensor, rng: Rng) -> Tensor:
        gone = rng.uniform(tuple(x_0.shape), x_0.device) >= self.alpha(t, x_0)
        return x_0.masked_fill(gone, self.mask_id)

    def prior(self, shape: tuple[int, int], device: torch.device | str | None, rng: Rng | None = None) -> Tensor:
        """Long[B, L], all [MASK]."""
        return torch.full(shape, self.mask_id, device=device)

    def forward_to(self, p0: Tensor, a_t: Tensor) -> Tensor:
        """q(x_t | x_0 ~ p0), Float[B, L, V], for survivals Float[B, L]."""
        others = 1 - F.one_hot(torch.tensor(self.mask_id, device=p0.device), self.vocab).to(p0.dtype)
        kept = a_t[..., None].to(p0.dtype) * p0 * others
        return kept + (1 - kept.sum(-1, keepdim=True)) * (1 - others)

    def step_from(self, x_t: Tensor, s: Tensor, t: Tensor) -> Tensor:
        """How likely each id at s is to be x_t at t by the *average* survival, Float64[B, L, V].

        The published code takes this step for the token's own.
        """
        kept = (self.base(t) / self.base(s).clamp_min(_LEAST))[..., None]
        return kept * F.one_hot(x_t, self.vocab) + (1 - kept) * (x_t == self.mask_id)[..., None]

    def back(self, p0: Tensor, x_t: Tensor, a_s: Tensor, s: Tensor, t: Tensor) -> Tensor:
        """The published q(x_s | x_t, x_0 ~ p0), Float[B, L, V]: own survival `a_s` up to s, then the average one."""
        product = self.forward_to(p0, a_s) * self.step_from(x_t, s, t).to(p0.dtype)
        return product / product.sum(-1, keepdim=True)

    def missed(self, x_0: Tensor) -> Tensor:
        """KL(q(x_1 | x_0), all [MASK]), Float64[B, L]: what starting from the prior costs."""
        gone = 1 - self.alpha(torch.ones(len(x_0), 1, device=x_0.device), x_0)
        return torch.special.xlogy(gone, gone) + torch.special.xlogy(1 - gone, (1 - gone) / 1e-20)

    def posterior(self, p0: Tensor, x_t: Tensor, a_t: Tensor, a_s: Tensor) -> Tensor:
        """The exact q(x_s | x_t), averaged over x_0 ~ p0: revealed with (a_s - a_t) / (1 - a_t).

        Survivals are Float[B, L], or Float[B, L, V] where every candidate has its own.
        """
        a_t, a_s = (a if a.dim() == p0.dim() else a[..., None] for a in (a_t, a_s))
        shown = p0 * reveal(a_t, a_s).to(p0.dtype)
        open = x_t == self.mask_id
        stays = (1 - shown.sum(-1, keepdim=True)) * self.stationary.to(p0.dtype)
        return torch.where(open[..., None], shown + stays, F.one_hot(x_t, self.vocab).to(p0.dtype))

    def candidates(self, guess: Tensor, t: Tensor) -> Tensor:
        """Survival at t of every id in sequences that look like Long[B, L] `guess`, Float64[B, 1, V]."""
        ease = self.ease.beside(self.ease.value, self.ease.centre(guess))
        return self.survival(t, ease)[:, None]

    def chances(self, p0: Tensor, x_t: Tensor, t: Tensor, s: Tensor, least: float = 1e-4) -> Tensor:
        """p(x_s | x_t) of a model that knows p0 alone, Float[B, L, V]: `posterior` with each candidate's survival.

        Candidates survive as in the sequence of p0's likeliest tokens.  Every masked column is revealed with a chance
        of at least `least` of what is left, which keeps bounds finite where survivals are clipped.
        """
        guess = torch.where(x_t == self.mask_id, p0.argmax(-1), x_t)
        a_t, a_s = self.candidates(guess, t), self.candidates(guess, s)
        return self.posterior(p0, x_t, a_t.clamp_max(self.ceiling), torch.maximum(a_s, a_t + least * (1 - a_t)))

    def cost(self, p0: Tensor, x_0: Tensor, x_t: Tensor, t: Tensor, s: Tensor) -> Tensor:
        """KL(q(x_s | x_t, x_0), p(x_s | x_t)) from the exact posterior to `chances`, nats Float[B, L]."""
        ours = self.chances(p0, x_t, t, s)
        shown = reveal(self.alpha(t, x_0), self.alpha(s, x_0)).to(p0.dtype)
        hit, stay = ours.gather(-1, x_0[..., None])[..., 0], ours[..., self.mask_id]
        nats = _nats(shown, hit) + _nats(1 - shown, stay)
        return torch.where(x_t == self.mask_id, nats, 0.0).clamp_min(0)


def reveal(a_t: Tensor, a_s: Tensor) -> Tensor:
    """(a_s - a_t) / (1 - a_t): the chance that what is masked at t was not yet at s; the shapes broadcast."""
    return (a_s - a_t) / (1 - a_t)


def occurrences(texts: Iterable[Tensor], vocab: int) -> Tensor:
    """Long[V]: how often each id is in the data, from which both forms are made."""
    total = torch.zeros(vocab, dtype=torch.long)
    for text in texts:
        total += torch.bincount(text.reshape(-1), minlength=vocab)
    return total


def _nats(p: Tensor, q: Tensor) -> Tensor:
    """p log(p / q), 0 where p is."""
    return torch.special.xlogy(p, p) - torch.where(p > 0, p * torch.where(p > 0, q, 1.0).clamp_min(1e-30).log(), 0.0)
