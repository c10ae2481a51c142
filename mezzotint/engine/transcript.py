"""Settled tokens to text: whole characters only, and nothing from a stop string on."""

from collections.abc import Iterable
from typing import Protocol


class Pieces(Protocol):
    """A streaming decoder, such as `data.tokenizer.TextStream`."""

    def push(self, ids: int | Iterable[int]) -> str:
        """What these ids add to the text, whole characters only."""
        ...

    def flush(self) -> str:
        """What is left at the end: a character that never became whole."""
        ...


class Transcript:
    """The text of one answer.

    What may be the beginning of a stop string is held back until more is known, so text that was handed out is final
    and never holds a stop string, wherever its tokens' borders lie.
    """

    def __init__(self, decoder: Pieces | None, stop: tuple[str, ...] = ()) -> None:
        """`decoder` is None for writers without a vocabulary: their texts are empty."""
        self._decoder, self._stop = decoder, stop
        self._held = ""

    def push(self, tokens: tuple[int, ...]) -> tuple[int, str, bool]:
        """How many of these tokens count, the text that they complete, and whether a stop string ended it."""
        if self._decoder is None:
            return len(tokens), "", False
        if not self._stop:
            return len(tokens), self._decoder.push(tokens), False
        out = ""
        for count, token in enumerate(tokens, 1):
            text, ended = self._passed(self._held + self._decoder.push(token))
            out += text
            if ended:
                return count, out, True
        return len(tokens), out, False

    def flush(self) -> tuple[str, bool]:
        """What was held back, unfinished characters as U+FFFD, and whether a stop string ended it; once, at the end."""
        if self._decoder is None:
            return "", False
        rest = self._held + self._decoder.flush()
        self._held = ""
        found = self._first(rest)
        return (rest, False) if found is None else (rest[:found], True)

    def _passed(self, text: str) -> tuple[str, bool]:
        """What may be said of a text, and whether a stop string stands behind it; the rest is held back."""
        found = self._first(text)
        if found is not None:
            self._held = ""
            return text[:found], True
        keep = max((n for stop in self._stop for n in range(1, len(stop)) if text.endswith(stop[:n])), default=0)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep], False

    def _first(self, text: str) -> int | None:
        """Where the first stop string begins."""
        return min((at for stop in self._stop if (at := text.find(stop)) >= 0), default=None)
