"""Held-out chat prompts and short questions, and the check that keeps them out of training.

Both lists are in `data/`, written for this project.  Lines are dealt evenly by kind, so the first N are a fair sample.
No prompt has the form of one of the training templates of `data/prompts.py`; whatever else is trained on must pass
through `held_out`.
"""

import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from mezzotint.evaluate.bench.exact_match import Question, words


@dataclass(frozen=True, slots=True)
class Prompt:
    """A conversation that ends with a user's message."""

    id: str
    kind: str
    messages: tuple[dict[str, str], ...]


def prompts(count: int | None = None) -> list[Prompt]:
    """The first `count` held-out chat prompts, all of them if None; fewer if there are not as many."""
    rows = _lines("prompts.jsonl")[:count]
    return [Prompt(row["id"], row["kind"], tuple(row["messages"])) for row in rows]


def questions(count: int | None = None) -> list[Question]:
    """The first `count` verifiable questions, all of them if None."""
    return [
        Question(**{**row, "answers": tuple(row["answers"]), "options": tuple(row.get("options", ()))})
        for row in _lines("questions.jsonl")[:count]
    ]


def held_out(prompt: str) -> bool:
    """Whether a user's message is used for evaluation and must not be trained on; case and punctuation do not count."""
    return words(prompt) in held_out_messages()


@cache
def held_out_messages() -> frozenset[tuple[str, ...]]:
    """The words of every user message and question used for evaluation."""
    said = [m["content"] for p in prompts() for m in p.messages if m["role"] == "user"]
    return frozenset(words(text) for text in said + [q.question for q in questions()])


@cache
def _lines(name: str) -> list[dict[str, Any]]:
    text = files("mezzotint.evaluate").joinpath("data", name).read_text("utf-8")
    return [json.loads(line) for line in text.splitlines()]
