"""What a running request tells its listeners.

Columns count from the first generated token (0 = first token of the answer).  A listener can paint the whole canvas
from `Wrote` and `Reopened`; one that only wants final text needs `Settled`, whose tokens never change again.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Started:
    """The prompt has been read."""

    prompt_tokens: int
    seconds: float
    """Time spent reading the prompt."""


@dataclass(frozen=True, slots=True)
class Wrote:
    """Tokens put on the canvas that may still change: a draft."""

    columns: tuple[int, ...]
    tokens: tuple[int, ...]
    scores: tuple[float, ...]
    """Confidence of each token in [0, 1]."""
    width: int
    """Right edge of the active block: columns [settled, width) without a token are still noise."""


@dataclass(frozen=True, slots=True)
class Reopened:
    """Drafted columns that were taken back."""

    columns: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Settled:
    """The next tokens of the answer, final, directly after those settled before."""

    tokens: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Finished:
    """The answer is complete."""

    reason: str
    """"stop" for an end token, "length" for the token limit."""
    tokens: int
    """Generated tokens, the end token included."""
    seconds: float
    """From the request to the last token, reading the prompt included."""
    forwards: int
    """Passes of the base network after the prompt was read."""
    first_token_seconds: float


Event = Started | Wrote | Reopened | Settled | Finished
