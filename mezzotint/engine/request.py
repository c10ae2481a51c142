"""What a caller asks for."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mezzotint.counter import uniform
from mezzotint.denoisers.causal_network import Floats
from mezzotint.engine.checks import is_number, is_whole
from mezzotint.engine.repetition import Repetition
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
    top_k: int = 0
    """Keep this many likeliest tokens, before `top_p`; 0 keeps all."""
    repetition: Repetition = Repetition()  # noqa: RUF009 - frozen and without state
    """What tokens lose that the text has already; nothing by default."""

    def __post_init__(self) -> None:
        if not is_number(self.temperature) or not 0 <= self.temperature < math.inf:
            raise RequestError(f"cannot sample at temperature {self.temperature!r}: give a number from 0 up")
        if not is_number(self.top_p) or not 0 < self.top_p <= 1:
            raise RequestError(f"cannot sample with top_p {self.top_p!r}: give a number above 0 and at most 1")
        if not is_whole(self.top_k) or self.top_k < 0:
            raise RequestError(f"cannot sample with top_k {self.top_k!r}: give a whole number from 0 up, 0 keeps all")
        if not is_whole(self.seed) or not 0 <= self.seed < 2**63:
            raise RequestError(f"seed {self.seed!r} is no whole number from 0 to 2**63 - 1: use another")

    def probabilities(self, logits: Floats) -> np.ndarray:
        """Float64[V] of Float[V]; one token has all of it at temperature 0."""
        if self.temperature == 0:
            p = np.zeros(len(logits))
            p[int(logits.argmax())] = 1
            return p
        # the shift comes first: a tiny temperature must leave 0 for the likeliest token, not infinity less infinity
        with np.errstate(over="ignore"):
            p = np.exp((logits.astype(np.float64) - float(logits.max())) / self.temperature)
        p /= p.sum()
        if 0 < self.top_k < len(p):
            p[np.argsort(-p, kind="stable")[self.top_k :]] = 0
            p /= p.sum()
        if self.top_p < 1:
            order = np.argsort(-p, kind="stable")
            before = np.cumsum(p[order]) - p[order]
            p[order[before >= self.top_p]] = 0
            p /= p.sum()
        return p

    def choose(self, logits: Floats, index: int, text: Sequence[int] = ()) -> int:
        """The token that this noise draws as generated token `index` from Float[V] logits.

        `text` are the ids before it, prompt and answer, which repetition looks at.
        """
        if self.repetition.active:
            logits = self.repetition.shaped(logits, text, index)
        if self.temperature == 0:
            return int(logits.argmax())
        p = self.probabilities(logits)
        total = np.cumsum(p)
        at = int(np.searchsorted(total, float(uniform(self.seed, index, 0)) * total[-1], side="right"))
        return min(at, int(np.flatnonzero(p)[-1]))


@dataclass(frozen=True, slots=True)
class Request:
    """One text to write: an answer behind a prompt, or the holes of a text."""

    prompt: tuple[int | None, ...]
    """Ids, and None for a column that is to be written."""
    max_new_tokens: int = 256
    """Most tokens behind the prompt; 0 where only holes are filled."""
    sampling: Sampling = Sampling()
    method: Any = None
    """How: a mode of the hybrid, a decoding method; what it may be, the writer knows."""
    stop: tuple[str, ...] = ()
    """Strings that end the answer, and are no part of it."""
    continues: bool = False
    """Whether the answer goes on where the prompt's text ends, so that its first token keeps the blank before it."""

    def __post_init__(self) -> None:
        if not self.prompt:
            raise RequestError("the prompt is empty: give at least one token")
        if not is_whole(self.max_new_tokens) or self.max_new_tokens < (0 if None in self.prompt else 1):
            raise RequestError(f"cannot write {self.max_new_tokens!r} tokens: ask for at least 1")
        if not all(isinstance(text, str) and text for text in self.stop):
            raise RequestError("a stop string is empty or no text: give strings of at least one character")
