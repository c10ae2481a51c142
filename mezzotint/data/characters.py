"""A user's text file as characters: a vocabulary, and windows of it by number."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mezzotint.batch import Batch
from mezzotint.errors import ConfigError, VocabularyError
from mezzotint.rng import uniform

UNKNOWN = "\ufffd"
"""Stands for characters too rare to keep."""


@dataclass(frozen=True)
class Characters:
    """Ids 0, 1, ... for characters, and [MASK] behind them."""

    symbols: tuple[str, ...]

    @classmethod
    def of(cls, text: str, most: int = 1024) -> "Characters":
        """The `most` most frequent characters of a text; rarer ones become U+FFFD."""
        counts = Counter(text)
        if len(counts) <= most:
            return cls(tuple(sorted(counts)))
        frequent = [symbol for symbol, _ in counts.most_common(most - 1) if symbol != UNKNOWN]
        return cls(tuple(sorted([*frequent, UNKNOWN])))

    @property
    def mask_id(self) -> int:
        """The id of [MASK], the last one."""
        return len(self.symbols)

    @property
    def vocab(self) -> int:
        """Number of ids, [MASK] included."""
        return len(self.symbols) + 1

    def encode(self, text: str) -> np.ndarray:
        """Int64 ids.

        Raises:
            VocabularyError: a character that the vocabulary lacks, if it has no U+FFFD to stand for it.
        """
        ids = {symbol: index for index, symbol in enumerate(self.symbols)}
        unknown = ids.get(UNKNOWN)
        if unknown is None:
            for symbol in text:
                if symbol not in ids:
                    raise VocabularyError(
                        f"the character {symbol!r} is not in the vocabulary of {len(ids)}: it knows "
                        f"{_shown(self.symbols)}"
                    )
        return np.fromiter((ids.get(symbol, unknown) for symbol in text), dtype=np.int64, count=len(text))

    def decode(self, ids: list[int]) -> str:
        """The text of ids; undecided columns show as an underscore."""
        return "".join(self.symbols[i] if i < len(self.symbols) else "_" for i in ids)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for a file beside the weights."""
        return {"kind": "characters", "symbols": "".join(self.symbols)}


def _shown(symbols: tuple[str, ...]) -> str:
    """The characters, blanks and line ends legible; only the first of many."""
    return repr("".join(symbols[:100])) + (" and more" if len(symbols) > 100 else "")


@dataclass(frozen=True)
class Windows:
    """Random windows of a long text, every one a function of (step, seed)."""

    ids: np.ndarray
    length: int
    rows: int

    def batch(self, step: int, seed: int) -> Batch:
        """`rows` windows of `length` ids."""
        noise = uniform(seed, step, np.arange(self.rows), 0)
        starts = (noise * (len(self.ids) - self.length + 1)).astype(np.int64)
        tokens = torch.from_numpy(self.ids[starts[:, None] + np.arange(self.length)])
        return Batch(tokens, torch.ones_like(tokens, dtype=torch.bool))


@dataclass(frozen=True)
class Pages:
    """A text from its beginning, cut into windows that do not overlap; what is left at the end is not shown."""

    ids: np.ndarray
    length: int
    rows: int

    def __len__(self) -> int:
        """Number of whole batches of `rows` windows."""
        return len(self.ids) // (self.length * self.rows)

    def batch(self, number: int) -> Batch:
        """The windows `number * rows` to `(number + 1) * rows`."""
        start = number * self.rows * self.length
        tokens = torch.from_numpy(self.ids[start : start + self.rows * self.length].reshape(self.rows, self.length))
        return Batch(tokens, torch.ones_like(tokens, dtype=torch.bool))


def read_text(path: Path, least: int) -> str:
    """A UTF-8 text file of at least `least` characters.

    Raises:
        ConfigError: it is missing, not UTF-8, or too short.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")  # a byte-order mark is no letter
    except OSError as error:
        raise ConfigError(f"cannot read the text {path}: {error.strerror or error}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"cannot read {path} as text: it is not UTF-8 at byte {error.start}, convert it with iconv -t utf-8"
        ) from None
    if "\0" in text:
        raise ConfigError(f"cannot read {path} as text: it has a zero byte in it, as only binary files do")
    if len(text) < least:
        raise ConfigError(f"the text {path} has {len(text)} characters: training on it needs at least {least}")
    return text
