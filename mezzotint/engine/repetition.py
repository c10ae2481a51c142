"""Keeping a text from repeating itself: what a token loses for having been written before.

Penalties depend on the text before a token alone, so every way of writing that asks for them with the same text gives
the same token: `verify` stays equal to `ar`.
"""

import contextlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mezzotint.denoisers.causal_network import Floats
from mezzotint.engine.checks import is_number, is_whole
from mezzotint.errors import RequestError


@dataclass(frozen=True, slots=True)
class Repetition:
    """Penalties on logits, by the names that transformers and the OpenAI API give them; the defaults do nothing."""

    repetition_penalty: float = 1.0
    """Logits of tokens that stand in the text, prompt included, are divided by it where positive and multiplied where
    negative (CTRL, 1909.05858, sec. 4.1)."""
    frequency_penalty: float = 0.0
    """Taken off once for every time that the answer has the token."""
    presence_penalty: float = 0.0
    """Taken off once if the answer has the token."""
    no_repeat_ngram_size: int = 0
    """Tokens that would repeat so many tokens in a row that the answer has already are not written; 0 allows all."""

    def __post_init__(self) -> None:
        for name in ("repetition_penalty", "frequency_penalty", "presence_penalty"):
            value = getattr(self, name)
            if not is_number(value) or not np.isfinite(value):
                raise RequestError(f"{name} {value!r} is no finite number")
        if self.repetition_penalty <= 0:
            raise RequestError(f"repetition_penalty {self.repetition_penalty:g} is not above 0: 1 changes nothing")
        size = self.no_repeat_ngram_size
        if not is_whole(size) or size < 0:
            raise RequestError(f"no_repeat_ngram_size {size!r} is no whole number from 0 up: 0 allows all")

    @property
    def active(self) -> bool:
        """Whether any of it changes anything."""
        return (
            self.repetition_penalty != 1
            or self.frequency_penalty != 0
            or self.presence_penalty != 0
            or self.no_repeat_ngram_size > 0
        )

    def shaped(self, logits: Floats, text: Sequence[int], written: int) -> Floats:
        """Float[V]: the logits of the next token behind `text`, the last `written` ids of which are the answer."""
        out = np.array(logits, np.float32)
        answer = text[len(text) - written :] if written else ()
        if self.repetition_penalty != 1:
            ids = np.fromiter(set(text), np.int64)
            seen = out[ids]
            out[ids] = np.where(seen > 0, seen / self.repetition_penalty, seen * self.repetition_penalty)
        if answer and (self.frequency_penalty or self.presence_penalty):
            counts = Counter(answer)
            ids = np.fromiter(counts, np.int64)
            times = np.fromiter(counts.values(), np.float32)
            out[ids] -= self.frequency_penalty * times + np.float32(self.presence_penalty)
        if banned := self._ending(answer):
            out[banned] = -np.inf
        return out

    def _ending(self, answer: Sequence[int]) -> list[int]:
        """Tokens that would complete an n-gram which the answer has already."""
        n = self.no_repeat_ngram_size
        if not n or len(answer) < n:
            return []
        if n == 1:
            return list(set(answer))
        last, found, at = list(answer[len(answer) - n + 1 :]), [], n - 3
        with contextlib.suppress(ValueError):  # `index` looks at the few places that can match, and raises at the end
            while True:
                at = answer.index(last[-1], at + 1, len(answer) - 1)
                if list(answer[at - n + 2 : at + 1]) == last:
                    found.append(answer[at + 1])
        return found
