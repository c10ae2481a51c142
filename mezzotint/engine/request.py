"""What a caller asks for."""

from dataclasses import dataclass

import numpy as np

from mezzotint.counter import uniform
from mezzotint.denoisers.causal_network import Floats
from mezzotint.errors import RequestError


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the network's distribution becomes a token.

    The noise of a token is a function of (seed, index of the token) alone, so every lossless mode draws the same text.
    """

    temperature: float = 0.0
    """0 takes the likeliest token."""
    top_p: float = 1.0
    """Keep the fewest likeliest tokens that together have this probability."""
    seed: int = 0

    def __post_init__(self) -> None:
        if not (self.temperature >= 0 and np.isfinite(self.temperature)):
            raise RequestError(f"cannot sample at temperature {self.temperature}: give a number of at least 0")
        if not 0 < self.top_p <= 1:
            raise RequestError(f"cannot sample with top_p {self.top_p}: give a number above 0 and at most 1")

    def probabilities(self, logits: Floats) -> np.ndarray:
        """Float64[V]; one token has all of it at temperature 0."""
        if self.temperature == 0:
            p = np.zeros(len(logits))
            p[int(logits.argmax())] = 1
            return p
        # the shift comes first: a tiny temperature must leave 0 for the likeliest token, not infinity less infinity
        with np.errstate(over="ignore"):
            p = np.exp((logits.astype(np.float64) - float(logits.max())) / self.temperature)
        p /= p.sum()
        if self.top_p < 1:
            order = np.argsort(-p, kind="stable")
            before = np.cumsum(p[order]) - p[order]
            p[order[before >= self.top_p]] = 0
            p /= p.sum()
        return p

    def choose(self, logits: Floats, index: int) -> int:
        """The token that this noise draws as generated token `index`."""
        if self.temperature == 0:
            return int(logits.argmax())
        p = self.probabilities(logits)
        total = np.cumsum(p)
        at = int(np.searchsorted(total, float(uniform(self.seed, index, 0)) * total[-1], side="right"))
        return min(at, int(np.flatnonzero(p)[-1]))


@dataclass(frozen=True, slots=True)
class Request:
    """One answer to write."""

    prompt: tuple[int, ...]
    max_new_tokens: int = 256
    sampling: Sampling = Sampling()

    def __post_init__(self) -> None:
        if not self.prompt:
            raise RequestError("the prompt is empty: give at least one token")
        if self.max_new_tokens < 1:
            raise RequestError(f"cannot write {self.max_new_tokens} tokens: ask for at least 1")
