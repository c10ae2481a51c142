"""How fast engines write, measured so that a noisy machine hits all alike.

The prompts are dealt into rounds.  In every round each engine answers that round's prompts, one engine after the other,
each beginning with a few tokens that do not count; the order turns by one from round to round.  Ratios of engines are
taken within a round and their median is reported.  Tokens count up to and including the first end token.  An engine
that keeps what a prompt shares with the one before (here: the model's standing system message) may do so.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Any, TypeVar

from mezzotint.evaluate.bench.engines import BenchAnswer, BenchTask
from mezzotint.evaluate.bench.text_statistics import Estimate, bootstrap

T = TypeVar("T")
Write = Callable[[BenchTask], BenchAnswer]

TOUCH = 4
"""New tokens of the uncounted answer at the beginning of a turn: caches and clocks come back up."""


@dataclass(frozen=True, slots=True)
class Timing:
    """One measured answer."""

    prompt: str
    """Id of the prompt."""
    round: int
    prompt_tokens: int
    written: BenchAnswer


def dealt(items: Sequence[T], rounds: int) -> list[list[T]]:
    """Items dealt like cards into at most `rounds` hands, none empty."""
    return [list(items[at::rounds]) for at in range(min(rounds, len(items)))]


def turned(items: Sequence[T], by: int) -> list[T]:
    """Items from the `by`-th on, then those before it."""
    by %= max(1, len(items))
    return [*items[by:], *items[:by]]


def measure(write: Write, hand: Sequence[tuple[str, BenchTask]], number: int, touch: BenchTask) -> Iterator[Timing]:
    """One engine's turn: the uncounted `touch`, then every prompt of the hand.

    Args:
        write: the engine.
        hand: (id, prompt) pairs.
        number: the round.
        touch: a prompt that is not measured, because engines may keep what they have read of the prompt before.
    """
    write(replace(touch, limit=TOUCH))
    for name, task in hand:
        yield Timing(name, number, len(task.ids), write(task))


def summary(timings: Sequence[Timing]) -> dict[str, Any]:
    """Totals and medians of one engine's answers.

    `tokens_per_forward` counts the tokens after the first, which comes from reading the prompt: plain autoregression is
    exactly 1.
    """
    written = [t.written for t in timings]
    forwards = sum(w.forwards for w in written)
    later = sum(len(w.tokens) - 1 for w in written)
    return {
        "answers": len(written),
        "tokens": sum(len(w.tokens) for w in written),
        "seconds": sum(w.seconds for w in written),
        "tokens_per_second": rate(timings).to_dict(),
        "median_tokens_per_second": median(len(w.tokens) / w.seconds for w in written),
        "forwards": forwards,
        "tokens_per_forward": later / forwards if forwards else 1.0,
        "first_token_seconds": median(w.first_token_seconds for w in written),
        "prompt_tokens": median(t.prompt_tokens for t in timings),
    }


def rate(timings: Sequence[Timing]) -> Estimate:
    """Tokens per second: all tokens over all seconds, the prompt's reading included, with its interval over prompts."""
    return bootstrap([len(t.written.tokens) for t in timings], [t.written.seconds for t in timings])


def ratio(fast: Sequence[Timing], slow: Sequence[Timing]) -> dict[str, Any]:
    """How many times the tokens per second of `slow` the engine `fast` reaches, round by round."""
    shared = sorted({t.round for t in fast} & {t.round for t in slow})
    each = [
        rate([t for t in fast if t.round == number]).mean / rate([t for t in slow if t.round == number]).mean
        for number in shared
    ]
    return {"rounds": each, "median": median(each), "lowest": min(each), "highest": max(each)} if each else {}
