"""Exact match on short questions: strict, and the same for every engine.

Only the first line of an answer that holds a letter or digit counts, in lower case, without Markdown marks.  Then, by
the question's `score`:

    word    an accepted answer stands in the line as whole words
    number  the last number of the line, or number word up to twenty, is accepted ("2 + 3 = 5" answers 5)
    choice  the first of the offered options that stands in the line is accepted
    letter  the last word of one letter is accepted
    exact   the line, without final punctuation and surrounding quotes, is an accepted answer

A right answer in the second line, a hedge ("yes and no" is a yes) or a synonym nobody thought of are not made good.
"""

import re
import unicodedata
from dataclasses import dataclass
from typing import Literal

NUMBERS = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"),
    *("eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty"),
)
STRAIGHT = str.maketrans({"’": "'", "‘": "'", "“": '"', "”": '"', "*": None, "`": None, "_": None, "#": None})


@dataclass(frozen=True, slots=True)
class Question:
    """A question with its accepted answers."""

    id: str
    kind: str
    score: Literal["word", "number", "choice", "letter", "exact"]
    question: str
    answers: tuple[str, ...]
    options: tuple[str, ...] = ()
    """What a `choice` offers."""


def right(question: Question, answer: str) -> bool:
    """Whether an answer counts as correct."""
    line = first_line(answer)
    accepted = [tidy(a) for a in question.answers]
    if question.score == "word":
        return any(_position(line, a) is not None for a in accepted)
    if question.score == "number":
        return _last_number(line) in [float(a) for a in accepted]
    if question.score == "choice":
        found = {option: at for option in map(tidy, question.options) if (at := _position(line, option)) is not None}
        return bool(found) and min(found, key=lambda option: found[option]) in accepted
    if question.score == "letter":
        return [w for w in words(line) if len(w) == 1][-1:] in [[a] for a in accepted]
    return _bare(line) in [_bare(a) for a in accepted]


def tidy(text: str) -> str:
    """Lower case, plain quotes, no Markdown marks, single spaces."""
    return " ".join(unicodedata.normalize("NFKC", text).translate(STRAIGHT).casefold().split())


def words(text: str) -> tuple[str, ...]:
    """Letters and digits of a text as lower-case words: what makes two prompts the same."""
    return tuple(re.findall(r"[^\W_]+", unicodedata.normalize("NFKC", text).casefold()))


def first_line(answer: str) -> str:
    """The first line with something in it, tidied."""
    return next((tidy(line) for line in answer.splitlines() if words(line)), "")


def _position(line: str, phrase: str) -> int | None:
    match = re.search(rf"(?<!\w){re.escape(phrase)}(?!\w)", line)
    return match.start() if match else None


def _last_number(line: str) -> float | None:
    number_words = "|".join(sorted(NUMBERS, key=len, reverse=True))
    found = re.findall(rf"(?<![\w.])-?\d[\d,]*(?:\.\d+)?|\b(?:{number_words})\b", line)
    if not found:
        return None
    last = found[-1]
    return float(NUMBERS.index(last)) if last in NUMBERS else float(last.replace(",", ""))


def _bare(line: str) -> str:
    return line.strip().rstrip(".!").strip("\"' ").rstrip(".!")
