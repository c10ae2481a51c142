"""What a running request tells its listeners.

Columns count from the first generated token (0 = first token of the answer); where a text with holes is filled, from
the first column of the text.  A listener can paint the whole canvas from `Wrote` and `Reopened`; one that only wants
final text needs `Settled`, whose tokens never change again.
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
    """Drafted columns that were reopened: they hold noise again."""

    columns: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Settled:
    """The next tokens of the answer, final, directly after those settled before."""

    tokens: tuple[int, ...]
    text: str = ""
    """What these tokens add to the text: all of them joined are the answer.  It lags behind the tokens inside a
    character, and where a stop string may have begun."""


@dataclass(frozen=True, slots=True)
class Finished:
    """The answer is complete."""

    reason: str
    """"stop" for an end token or a stop string, "length" for the token limit."""
    tokens: int
    """Generated tokens, the end token included."""
    seconds: float
    """From the request's first step to the last token, reading the prompt included."""
    forwards: int
    """Passes of the base network after the prompt was read."""
    first_token_seconds: float
    text: str = ""
    """What of the answer's text no `Settled` has said: a character that never became whole, or half a stop string."""


Event = Started | Wrote | Reopened | Settled | Finished
