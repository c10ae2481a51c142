"""The bank of hand-made prompts, and how one of them becomes a conversation.

`assets/prompts.txt` explains its own format: kinds of conversations, one a line, and lists of words for their fields.
"""

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

FIELD = re.compile(r"\{(?:([a-z]+)(\d?)|(\d+)\.\.(\d+))\}")

GREETINGS = (
    "Hi! ",
    "Hello, ",
    "hey, ",
    "Quick question: ",
    "Hi there. ",
    "Please help me: ",
    "ok so ",
    "Good morning! ",
)
WISHES = (
    "Keep it short.", "In two sentences.", "As a list, please.", "Please explain your answer.", "Use simple words.",
    "Answer in one sentence.", "Be specific.", "thanks!", "Give an example too.", "In under 100 words, please.",
    "I am a beginner.", "Go into detail.", "Use bullet points.", "No introduction, just the answer.",
    "Thank you in advance.", "Make it friendly.", "Step by step, please.", "and keep it simple", "Add a short summary.",
    "Don't make it too long.", "Please be brief, I'm in a hurry.", "A short paragraph is enough.",
)  # fmt: skip


@dataclass(frozen=True)
class Bank:
    """Conversations by kind, as user turns with fields, and the words that may fill the fields."""

    kinds: dict[str, tuple[tuple[str, ...], ...]]
    words: dict[str, tuple[str, ...]]

    @property
    def lines(self) -> list[tuple[str, ...]]:
        """All conversations, in the order of the file."""
        return [turns for kind in self.kinds.values() for turns in kind]


@cache
def bank() -> Bank:
    """The bank that comes with the package."""
    return parsed(files("mezzotint").joinpath("assets", "prompts.txt").read_text("utf-8"))


def parsed(text: str) -> Bank:
    """A bank from text in the format of `assets/prompts.txt`."""
    sections: dict[str, list[str]] = {}
    lines: list[str] = []  # what stands before the first heading is for people
    for line in filter(None, map(str.strip, text.splitlines())):
        if line.startswith("## "):
            lines = sections.setdefault(line.removeprefix("## "), [])
        else:
            lines.append(line.replace("\\n", "\n"))
    kinds: dict[str, tuple[tuple[str, ...], ...]] = {}
    words: dict[str, tuple[str, ...]] = {}
    for name, rows in sections.items():
        if name.startswith("{"):
            words[name.strip("{}")] = tuple(word for row in rows for word in row.split(" ; "))
        else:
            kinds[name] = tuple(tuple(row.split(" ||| ")) for row in rows)
    return Bank(kinds, words)


def filled(turns: Sequence[str], words: Mapping[str, Sequence[str]], rng: random.Random) -> list[str]:
    """The turns with words in their fields; a field means the same in all turns, and {city2} another than {city}."""
    chosen: dict[str, str] = {}

    def fill(found: re.Match[str]) -> str:
        name, low, high = found[1], found[3], found[4]
        if low:
            return str(rng.randint(int(low), int(high)))
        if found[0] not in chosen:
            taken = {word for field, word in chosen.items() if field.strip("{}0123456789") == name}
            chosen[found[0]] = rng.choice([word for word in words[name] if word not in taken])
        return chosen[found[0]]

    return [FIELD.sub(fill, turn) for turn in turns]


def varied(first: str, rng: random.Random) -> str:
    """A prompt as it is or, so that its repeats differ, with a greeting, a wish or in careless typing."""
    way = rng.choices(("as is", "wish", "greeting", "careless"), (66, 20, 6, 8))[0]
    several = "\n" in first
    if way == "wish":
        return first + ("\n\n" if several else " " if first[-1] in ".?!:)\"'" else ". ") + rng.choice(WISHES)
    if way == "greeting":
        return rng.choice(GREETINGS) + first
    if way == "careless" and not several:
        typed = first.lower().rstrip(".?!")
        return _slip(typed, rng) if rng.random() < 0.4 else typed
    return first


def _slip(typed: str, rng: random.Random) -> str:
    """The text with two letters inside one longer word exchanged."""
    places = [found.start() for found in re.finditer(r"(?<=[a-z]{2})[a-z]{2}(?=[a-z])", typed)]
    if not places:
        return typed
    i = rng.choice(places)
    return typed[:i] + typed[i + 1] + typed[i] + typed[i + 2 :]
