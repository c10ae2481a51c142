"""Estimates of log p(answer | prompt) for masked families: what ranks answers and what policies are trained on.

In expectation over masks an estimate is the bound on log p.  A draw hides a fixed number of answer columns instead of
each by itself: with l of L hidden, l uniform and the columns drawn without replacement, L / l times the log
probabilities of the hidden tokens has the bound as its mean, exactly, and varies less (LLaDA, 2502.09992, Sec. 2.4 and
App. B.5).  The draws of one text share their numbers out over 1 to L, which lowers the variance again.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mezzotint.batch import Batch
from mezzotint.errors import ConfigError, RequestError
from mezzotint.layouts import Full, Layout
from mezzotint.processes.absorbing import Absorbing
from mezzotint.rng import Rng

Predict = Callable[[Tensor, Tensor], Tensor]
"""(raw Float[n, V], x_t Long[n]) -> log p(x_0 | x_t), Float[n, V], for the hidden columns of a draw."""

_COUNTS, _COLUMNS = 0xC0117, 0x0DDE2


def normalised(raw: Tensor, x_t: Tensor) -> Tensor:
    """The softmax over everything that has a logit, [MASK] too where it has one: LLaDA's prediction.

    Log-probabilities Float[B, L, V] of logits Float[B, L, V].
    """
    return raw.log_softmax(-1)


def counts(lengths: Tensor, draws: int, start: Tensor) -> Tensor:
    """How many columns each draw hides, Long[B, draws] in 1 to L: even steps around a circle of L numbers.

    For a uniform start every draw by itself is uniform, and L draws hide every number once.  The published code rounds
    start and step together, halves to even numbers: where the step is a half, its odd-numbered draws then never hide
    an odd number of columns, and the estimate is biased.  Here only the step is rounded.

    Args:
        lengths: Long[B], each text's L, above 0.
        draws: how many.
        start: Long[B], in 0 to L - 1.
    """
    steps = torch.arange(draws, device=lengths.device) * lengths[:, None] // draws
    return (start[:, None] + steps) % lengths[:, None] + 1


@dataclass(frozen=True)
class Likelihood:
    """The mean over `draws` masks; gradients flow through all of them unless the caller turns them off.

    Columns outside a batch's target are the prompt.  There is no padding: texts of unlike length are padded as those
    that the network was trained on were (LLaDA: with end tokens, which are part of the answer), or asked one by one.
    """

    process: Absorbing
    draws: int = 128
    """One is enough for answers of one token, where every draw is the same."""
    guidance: float = 0.0
    """Classifier-free: logits u + (1 + guidance) (c - u), where u is what the network says to a masked prompt."""
    rows: int = 32
    """Sequences per pass of the network; the estimate does not depend on it."""
    layout: Layout = Full()  # noqa: RUF009 - frozen and without state
    predict: Predict = normalised

    def __post_init__(self) -> None:
        """Raises ConfigError: fewer than one draw, or than one row."""
        for name, value in (("draws", self.draws), ("rows", self.rows)):
            if value < 1:
                raise ConfigError(f"cannot estimate a likelihood with {name} = {value}: take at least 1")

    def __call__(self, denoiser: Any, batch: Batch, rng: Rng) -> Tensor:
        """Float64[B]: nats, summed over each answer; what is drawn depends on `rng` alone."""
        return self.each(denoiser, batch, self.masks(batch, rng)).mean(-1)

    def masks(self, batch: Batch, rng: Rng) -> Tensor:
        """Bool[B, draws, L]: the columns that each draw hides.

        Raises:
            RequestError: a text without an answer.
        """
        (texts, columns), device = batch.tokens.shape, batch.tokens.device
        lengths = batch.target.sum(-1)
        if (lengths == 0).any():
            row = int((lengths == 0).nonzero()[0, 0])
            raise RequestError(f"cannot score text {row}: it has no answer, so give it at least one target column")
        start = (rng.fork(_COUNTS).uniform((texts,), device) * lengths).long()
        order = rng.fork(_COLUMNS).uniform((texts, self.draws, columns), device)
        order = order.masked_fill(~batch.target[:, None], torch.inf)
        return order.argsort(-1).argsort(-1) < counts(lengths, self.draws, start)[..., None]

    def each(self, denoiser: Any, batch: Batch, masks: Tensor) -> Tensor:
        """Float64[B, n]: what each of the masks Bool[B, n, L] says: L / l times the log probability of what it hides.

        Raises:
            RequestError: a mask that hides nothing, or a column of a prompt.
        """
        if (masks & ~batch.target[:, None]).any() or not masks.any(-1).all():
            raise RequestError(
                "cannot score with these masks: each must hide answer columns, at least one, and no other"
            )
        texts, draws, _ = masks.shape
        hidden, text = masks.flatten(0, 1), torch.arange(texts, device=masks.device).repeat_interleave(draws)
        parts = zip(hidden.split(self.rows), text.split(self.rows), strict=True)
        sums = [self._sum(denoiser, Batch(batch.tokens[row], batch.target[row]), part) for part, row in parts]
        return torch.cat(sums).reshape(texts, draws)

    def _sum(self, denoiser: Any, batch: Batch, hidden: Tensor) -> Tensor:
        """Float64[R] of R sequences and their masks Bool[R, L]."""
        x_0, length, count = batch.tokens, batch.target.sum(-1), hidden.sum(-1)
        x_t, share = x_0.masked_fill(hidden, self.process.mask_id), (count.double() / length)[:, None]
        # a schedule that keeps a little at t = 1 reaches the share 1 only after it
        t = self.process.schedule.time(1 - share).clamp_max(1).float()
        raw = self._raw(denoiser, x_t, x_0, t, hidden)
        if self.guidance:
            blind, bare = (x.masked_fill(~batch.target, self.process.mask_id) for x in (x_t, x_0))
            without = self._raw(denoiser, blind, bare, t, hidden)
            raw = without + (1 + self.guidance) * (raw - without)
        logp = self.predict(raw, x_t[hidden]).gather(-1, x_0[hidden][:, None])[:, 0].double()
        found = torch.zeros(hidden.shape, dtype=logp.dtype, device=logp.device).masked_scatter(hidden, logp)
        return found.sum(-1) / share[:, 0]

    def _raw(self, denoiser: Any, x_t: Tensor, x_0: Tensor, t: Tensor, hidden: Tensor) -> Tensor:
        """Float[n, V] of the hidden columns, in at least 32 bits: guidance and softmax of bfloat16 lose the sum."""
        raw = self.layout.extract(denoiser(self.layout.arrange(x_t, x_0), t))[hidden]
        return raw.to(torch.promote_types(raw.dtype, torch.float32))
