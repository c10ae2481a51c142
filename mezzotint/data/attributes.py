"""What can be asked of a text: its length in words, or a kind for every column; labels for classifiers and guidance."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal, Protocol

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from mezzotint.config import Named, config
from mezzotint.errors import RequestError

KINDS = {"v": "vowel", "c": "other letter", "s": "space", "d": "digit", "m": "mark"}
"""The letter of a pattern, and what it asks for."""
_VOWELS = frozenset("aeiouyàáâãäåæèéêëìíîïòóôõöøùúûüœаеёиоуыэюя")


class Words(Protocol):
    """Texts of ids: `Characters` or `Subwords`."""

    @property
    def vocab(self) -> int:
        """How many ids there are, [MASK] included."""
        ...

    def decode(self, ids: list[int]) -> str:
        """The text of ids."""
        ...


@config
class Length:
    """How many words a text has, one class per range of numbers."""

    kind: Literal["length"] = "length"
    edges: tuple[int, ...] = ()
    """The least number of words of every class but the first; three classes, as frequent, of the text if empty."""

    @property
    def classes(self) -> int:
        """How many: one more than there are edges."""
        return len(self.edges) + 1

    @property
    def tagging(self) -> bool:
        """Whether every column has a class of its own."""
        return False

    def fitted(self, ids: np.ndarray, length: int, vocabulary: Words) -> "Length":
        """With edges, where there are none: thirds of the windows of `length` ids."""
        if self.edges:
            return self
        starts = np.linspace(0, len(ids) - length, 300).astype(np.int64)
        counts = [_count(vocabulary, ids[start : start + length].tolist()) for start in starts]
        return replace(self, edges=tuple(sorted({int(np.quantile(counts, share)) for share in (1 / 3, 2 / 3)})))

    def labels(self, tokens: Tensor, vocabulary: Words) -> Tensor:
        """Long[B] of Long[B, L]."""
        counts = torch.tensor([_count(vocabulary, row) for row in tokens.tolist()])
        return torch.bucketize(counts, torch.tensor(self.edges, dtype=counts.dtype), right=True)

    def wanted(self, value: str, columns: int) -> list[int]:
        """The class of a number of words.

        Raises:
            RequestError: it is no number.
        """
        if not value.isdecimal():
            raise RequestError(f"a length of {value!r} words is no whole number: give one, such as 8")
        return [int(np.searchsorted(self.edges, int(value), side="right"))]

    def met(self, value: str, tokens: Tensor, vocabulary: Words) -> tuple[float, str]:
        """Whether one text, Long[L], is in the class of a number of words: 1 or 0, and what it is, in words."""
        asked, count = self.wanted(value, len(tokens))[0], _count(vocabulary, tokens.tolist())
        first = self.edges[asked - 1] if asked else 0
        last = self.edges[asked] - 1 if asked < len(self.edges) else None
        among = (
            f"{first} to {last}" if last is not None and last != first else f"{first}" if last else f"{first} or more"
        )
        return float(self.labels(tokens[None], vocabulary).item() == asked), f"{count} words, asked for {among}"


@config
class Kinds:
    """What stands in a column: a vowel, another letter, a space, a digit or a mark."""

    kind: Literal["kinds"] = "kinds"

    @property
    def classes(self) -> int:
        """How many kinds there are."""
        return len(KINDS)

    @property
    def tagging(self) -> bool:
        """See `Length`."""
        return True

    def fitted(self, ids: np.ndarray, length: int, vocabulary: Words) -> "Kinds":
        """As it is."""
        return self

    def labels(self, tokens: Tensor, vocabulary: Words) -> Tensor:
        """Long[B, L] of Long[B, L]; a token of many characters is of the kind of its first one that is no space."""
        found, back = tokens.unique(return_inverse=True)
        return torch.tensor([_kind(vocabulary.decode([token])) for token in found.tolist()])[back]

    def wanted(self, value: str, columns: int) -> list[int]:
        """A class per column, -1 where the pattern says ? or has ended.

        Raises:
            RequestError: a letter that means nothing, or more of them than there are columns.
        """
        order = [*KINDS]
        if unknown := sorted(set(value) - set(order) - {"?"}):
            raise RequestError(f"a pattern has no {unknown[0]!r}: write {', '.join(order)} or ? for any")
        if len(value) > columns:
            raise RequestError(f"a pattern of {len(value)} does not fit a text of {columns} tokens: shorten it")
        return [-1 if letter == "?" else order.index(letter) for letter in value.ljust(columns, "?")]

    def met(self, value: str, tokens: Tensor, vocabulary: Words) -> tuple[float, str]:
        """The share of the columns asked for that are of their kind in one text, Long[L], and what they are, in words.

        A pattern that asks for nothing is met.
        """
        asked = self.wanted(value, len(tokens))
        found = self.labels(tokens[None], vocabulary)[0].tolist()
        hits = [got == want for got, want in zip(found, asked, strict=True) if want >= 0]
        share = sum(hits) / len(hits) if hits else 1.0
        return share, f"{sum(hits)} of {len(hits)} columns, {''.join([*KINDS][kind] for kind in found)}"


Attribute = Annotated[Length | Kinds, Field(discriminator="kind"), Named]


@dataclass(frozen=True)
class Marked:
    """Windows of a text with their labels."""

    windows: Any
    """Whose `batch` is to be labelled."""
    attribute: Length | Kinds
    vocabulary: Words
    make: Any
    """(tokens, target, labels=...) -> what the objective reads."""

    def batch(self, step: int, seed: int) -> Any:
        """The windows of that number, and what they are."""
        batch = self.windows.batch(step, seed)
        labels = self.attribute.labels(batch.tokens, self.vocabulary)
        return self.make(batch.tokens, batch.target, labels=labels)


def _count(vocabulary: Words, ids: Sequence[int]) -> int:
    return len(vocabulary.decode(list(ids)).split())


def _kind(text: str) -> int:
    first = text.strip()[:1].lower()
    found = (
        "s" if not first else "v" if first in _VOWELS else "c" if first.isalpha() else "d" if first.isdigit() else "m"
    )
    return [*KINDS].index(found)
