"""What an answer is worth, in numbers: agreement, likelihood, repetition, entropy, and intervals around all of them.

Token ids go in, not text: the engines compared share one vocabulary.
"""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]
Logits = Callable[[Sequence[int]], Floats]
"""Token ids, N of them -> Float[N, V]; row i scores the token after i."""

CONFIDENCE = 1.959963984540054
"""Normal quantile of a two-sided 95 % interval."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """How far an answer follows a reference."""

    identical: bool
    prefix: float
    """Tokens until the first difference, as a share of the longer of the two."""
    positions: float
    """Share of positions of the longer of the two that hold the same token."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean with its 95 % interval."""

    mean: float
    low: float
    high: float
    count: int

    def to_dict(self) -> dict[str, float]:
        """Plain values for a record."""
        return asdict(self)


def agreement(reference: Sequence[int], answer: Sequence[int]) -> Agreement:
    """Compare two sequences of tokens; two empty ones agree."""
    longest = max(len(reference), len(answer))
    if not longest:
        return Agreement(True, 1.0, 1.0)
    same = [a == b for a, b in zip(reference, answer, strict=False)]
    prefix = same.index(False) if False in same else len(same)
    return Agreement(list(reference) == list(answer), prefix / longest, sum(same) / longest)


def log_likelihoods(logits: Logits, prompt: Sequence[int], answer: Sequence[int]) -> Floats:
    """log p(token | everything before it) of every answer token, Float[len(answer)] nats.

    Args:
        logits: the causal network that judges.
        prompt: at least one token.
        answer: the tokens that are judged.
    """
    if not answer:
        return np.zeros(0)
    rows = logits([*prompt, *answer[:-1]])[len(prompt) - 1 :]
    return np.array([row[token] - logsumexp(row) for row, token in zip(rows, answer, strict=True)], np.float64)


def logsumexp(row: Floats) -> float:
    """log of the sum of exponentials of Float[V], in 64 bits."""
    wide = row.astype(np.float64)
    top = wide.max()
    return float(top + np.log(np.exp(wide - top).sum()))


def repetition(tokens: Sequence[int], n: int) -> float:
    """rep-n: 1 - distinct / all n-grams of one answer (Welleck et al., 1908.04319, sec. 6); 0 when there are none."""
    grams = _grams(tokens, n)
    return 1 - len(set(grams)) / len(grams) if grams else 0.0


def distinct(answers: Sequence[Sequence[int]], n: int) -> float:
    """distinct-n: distinct / all n-grams of all answers together (Li et al., 1510.03055, sec. 5.2)."""
    grams = [gram for answer in answers for gram in _grams(answer, n)]
    return len(set(grams)) / len(grams) if grams else 0.0


def entropy(tokens: Sequence[int]) -> float:
    """Entropy of one answer's own token frequencies, nats; low values betray loops."""
    total = len(tokens)
    return -sum(c / total * math.log(c / total) for c in Counter(tokens).values()) if total else 0.0


def wilson(successes: int, count: int, z: float = CONFIDENCE) -> Estimate:
    """A share with Wilson's score interval (1927, JASA 22, p. 209): sound for few trials and for shares near 0 or 1."""
    if not count:
        return Estimate(0.0, 0.0, 1.0, 0)
    share, square = successes / count, z * z
    middle = (share + square / (2 * count)) / (1 + square / count)
    half = z * math.sqrt(share * (1 - share) / count + square / (4 * count**2)) / (1 + square / count)
    return Estimate(share, max(0.0, middle - half), min(1.0, middle + half), count)


def bootstrap(values: Sequence[float], weights: Sequence[float] | None = None, draws: int = 2000) -> Estimate:
    """A mean, or sum(values) / sum(weights), with its percentile bootstrap interval over the items.

    Args:
        values: one number per independent item, such as the summed log-likelihood of one answer.
        weights: what the sum is divided by, such as the answer's length; 1 each if None.
        draws: resamples; the seed is fixed, so equal inputs give equal intervals.
    """
    top = np.asarray(values, np.float64)
    bottom = np.ones_like(top) if weights is None else np.asarray(weights, np.float64)
    if not len(top) or not bottom.sum():
        return Estimate(math.nan, math.nan, math.nan, 0)
    pick = np.random.default_rng(0).integers(0, len(top), (draws, len(top)))
    below = bottom[pick].sum(1)
    means = top[pick].sum(1)[below > 0] / below[below > 0]
    low, high = np.quantile(means, [0.025, 0.975])
    return Estimate(float(top.sum() / bottom.sum()), float(low), float(high), len(top))


def _grams(tokens: Sequence[int], n: int) -> list[tuple[int, ...]]:
    return [tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1)]
