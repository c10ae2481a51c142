"""The sample that agrees most with the others: minimum Bayes risk by n-grams (Diffusion-LM, 2205.14217, sec. 5.3)."""

import math
from collections import Counter
from collections.abc import Callable, Sequence

from mezzotint.errors import RequestError

Text = Sequence[int]
Utility = Callable[[Text, Text], float]
"""(candidate, reference) -> how good the candidate is if the reference is right."""


def most_agreed(samples: Sequence[Text], utility: Utility | None = None) -> int:
    """Which sample has the largest mean utility against all the others; the first of equals.

    The paper also compares a sample with itself, which adds the same to every one of them.

    Raises:
        RequestError: no sample.
    """
    if not samples:
        raise RequestError("cannot choose among no samples: draw at least one")
    gain = utility or bleu
    scores = [sum(gain(text, other) for j, other in enumerate(samples) if j != i) for i, text in enumerate(samples)]
    return max(range(len(samples)), key=scores.__getitem__)


def bleu(candidate: Text, reference: Text, longest: int = 4) -> float:
    """Sentence BLEU of two token sequences in [0, 1]: matches and totals above one token smoothed by one.

    Precisions of 1 to `longest` tokens are weighed equally, shorter candidates than the reference are punished
    (Papineni et al. 2002); without a common token it is 0.
    """
    if not candidate or not reference:
        return float(len(candidate) == len(reference))
    total = 0.0
    for n in range(1, longest + 1):
        mine, theirs = _grams(candidate, n), _grams(reference, n)
        hits = sum((mine & theirs).values())
        if n == 1 and not hits:
            return 0.0
        smooth = 0 if n == 1 else 1
        total += math.log((hits + smooth) / (sum(mine.values()) + smooth))
    return math.exp(total / longest + min(0.0, 1 - len(reference) / len(candidate)))


def _grams(text: Text, n: int) -> Counter[tuple[int, ...]]:
    return Counter(tuple(text[i : i + n]) for i in range(len(text) - n + 1))
