"""Prompts for self-distillation: what users of a small chat model ask.

Nearly half come from our own bank of hand-made prompts (`data/bank.py`), the others from templates over three free word
lists.  Those come out of packages of the Python index, pinned and checked (`SOURCES`); their text is not stored here.
A prompt is drawn by number: the same seed and number give the same conversation on every machine.
"""

import json
import random
from dataclasses import dataclass, field
from pathlib import Path

from mezzotint.data.bank import Bank, bank, filled, varied
from mezzotint.data.packages import CONVERSATIONS, INTRODUCTIONS, RECIPES, unpacked

SOURCES = (INTRODUCTIONS, RECIPES, CONVERSATIONS)

ABOUT = (
    "What is {t}?", "Who or what is {t}?", "Explain {t} in simple terms.", "Tell me about {t}.",
    "Why is {t} important?", "Give me three facts about {t}.", "Write a short paragraph about {t}.",
    "What should a beginner know about {t}?", "How would you describe {t} to a child?",
    "What are the main ideas behind {t}?", "Give a brief history of {t}.", "List five things related to {t}.",
    "What are common misconceptions about {t}?", "Write a quiz question about {t} and answer it.",
    "Can you explain how {t} works?", "What are the advantages and disadvantages of {t}?", "Compare {t} and {u}.",
    "What is the difference between {t} and {u}?", "Write a poem about {t}.",
    "Write a short story that mentions {t} and {u}.",
    "Write an email to a friend recommending that they read about {t}.", "Create an outline for an essay about {t}.",
    "Describe {t} in one sentence.", "Write a dialogue between two people talking about {t}.",
    "Why do people care about {t}?",
)  # fmt: skip
TEXT = (
    "Summarize this text in one sentence:\n\n{x}", "Rewrite this text so that it is easier to read:\n\n{x}",
    "What is the main point of this passage?\n\n{x}", "List the key facts in the following text:\n\n{x}",
    "Make this more formal:\n\n{x}", "Turn this text into bullet points:\n\n{x}", "Write a title for this text:\n\n{x}",
)  # fmt: skip
FOOD = (
    "How do I cook {t}?", "Give me a recipe for {t}.", "What ingredients do I need for {t}?",
    "What goes well with {t}?", "Suggest a healthier version of {t}.",
)  # fmt: skip
LIFE = (
    "How can I {a}?", "Give me some tips on how to {a}.", "What is the best way to {a}?",
    "I want to {a}. Where do I start?", "Make a weekly plan that helps me to {a}.",
    "What mistakes should I avoid when I try to {a}?",
)  # fmt: skip
ACTIONS = (
    "sleep better", "learn a new language", "save money", "prepare for a job interview", "grow tomatoes",
    "stay focused at work", "make new friends", "run five kilometers", "write a good essay", "learn to play the guitar",
    "organize my desk", "train a puppy", "give a speech", "drink more water", "start a small business",
    "fix a flat tire", "learn to program", "read more books", "plan a trip", "deal with stress", "study for an exam",
    "clean a kitchen", "take better photos", "lose weight", "wake up early", "paint a room", "host a dinner party",
    "teach a child to read", "write a resume", "improve my handwriting",
)  # fmt: skip
CODE = (
    "Write a Python function that {c}.", "Write a JavaScript function that {c}.", "How do I write code that {c}?",
    "Write a Python program that {c}, with comments.", "Explain step by step how to write a function that {c}.",
)  # fmt: skip
TASKS = (
    "adds two numbers", "checks whether a number is even", "finds the largest item in a list",
    "counts the vowels in a string", "removes duplicates from a list", "sorts a list of numbers",
    "computes the factorial of a number", "reads a file line by line", "converts Celsius to Fahrenheit",
    "merges two dictionaries", "prints the numbers from 1 to 10", "checks if a year is a leap year",
    "computes the average of a list", "finds all words longer than five letters", "reverses the words of a sentence",
    "computes the sum of the digits of a number", "generates a random password", "counts the lines of a file",
    "draws a triangle of stars", "finds common elements of two lists", "checks if two words are anagrams",
    "computes the area of a circle", "parses a date",
)  # fmt: skip
NAMES = (
    "Anna", "Ben", "Carla", "David", "Emma", "Farid", "Grace", "Hugo", "Ines", "John", "Kim", "Liam", "Mia", "Noah",
    "Olga",
)  # fmt: skip
THINGS = ("apples", "books", "marbles", "coins", "stickers", "pencils", "cookies", "cards", "flowers", "stamps")
SUMS = (
    "{n} has {a} {t} and buys {b} more. How many {t} does {n} have now?", "What is {a} plus {b}?",
    "What is {a} times {b}?", "{n} has {c} {t} and gives {b} away. How many are left?", "Calculate {c} - {b}.",
    "If one box holds {a} {t}, how many do {b} boxes hold?",
)  # fmt: skip
FOLLOW = (
    "Can you explain that more simply?", "Give me an example.", "Thanks! What else should I know?", "Why is that?",
    "Can you make it shorter?", "Tell me more.", "How does that compare to other things?", "Write that as a list.",
    "Are you sure?", "What would you recommend?",
)  # fmt: skip
# Most of what is drawn should be unlike the templates, which are few; they stay for the sake of their many topics.
SHARES = {
    "bank": 0.45,
    "about": 0.21,
    "text": 0.065,
    "food": 0.03,
    "life": 0.065,
    "code": 0.055,
    "sums": 0.04,
    "talk": 0.085,
}


@dataclass(frozen=True)
class Prompts:
    """Conversations by number, as lists of user turns."""

    topics: tuple[str, ...]
    texts: tuple[str, ...]
    dishes: tuple[str, ...]
    openers: tuple[tuple[str, ...], ...]
    seed: int = 0
    bank: Bank = field(default_factory=bank)

    def conversation(self, number: int) -> list[str]:
        """User turns of conversation `number`; most have one."""
        rng = random.Random(f"{self.seed}/{number}")
        kind = rng.choices(tuple(SHARES), tuple(SHARES.values()))[0]
        if kind == "talk":
            return list(rng.choice(self.openers))
        if kind == "bank":
            return self._asked(rng)
        first = {
            "about": lambda: rng.choice(ABOUT).format(t=rng.choice(self.topics), u=rng.choice(self.topics)),
            "text": lambda: rng.choice(TEXT).format(x=rng.choice(self.texts)),
            "food": lambda: rng.choice(FOOD).format(t=rng.choice(self.dishes)),
            "life": lambda: rng.choice(LIFE).format(a=rng.choice(ACTIONS)),
            "code": lambda: rng.choice(CODE).format(c=rng.choice(TASKS)),
            "sums": lambda: _sum(rng),
        }[kind]()
        return [first, *_later(rng)]

    def later(self, number: int) -> list[str]:
        """What may follow in conversation `number` if it begins with something else."""
        return _later(random.Random(f"{self.seed}/{number}/later"))

    def _asked(self, rng: random.Random) -> list[str]:
        words = {**self.bank.words, "topic": self.topics, "dish": self.dishes}
        first, *later = filled(rng.choice(self.bank.lines), words, rng)
        if not later and rng.random() < 0.15:
            later = [rng.choice(FOLLOW)]
        return [varied(first, rng), *later]


def _later(rng: random.Random) -> list[str]:
    return [rng.choice(FOLLOW)] if rng.random() < 0.2 else []


def _sum(rng: random.Random) -> str:
    a, b = rng.randint(2, 30), rng.randint(2, 20)
    return rng.choice(SUMS).format(a=a, b=b, c=a + b, n=rng.choice(NAMES), t=rng.choice(THINGS))


def load(folder: Path, seed: int = 0) -> Prompts:
    """Prompts from the sources unpacked in `folder`, fetching what is missing with pip.

    Raises:
        CheckpointError: a source cannot be fetched, or is not the file that was pinned.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files = (unpacked(source, _silent, folder / Path(source.member).name) for source in SOURCES)
    wiki, food, talk = (json.loads(file.read_text("utf-8")) for file in files)
    openers = []
    for conversation in talk.values():
        turns = [" ".join(message["text"] for message in turn).strip() for turn in conversation["messages"][:5:2]]
        turns = [t[:300] for t in turns if len(t) >= 12]
        if turns:
            openers.append(tuple(turns[: 1 + len(openers) % 2]))
    texts = [page["extract"] for page in wiki.values() if 200 <= len(page["extract"]) <= 700]
    dishes = [page["title"] for page in food.values()]
    return Prompts(tuple(wiki), tuple(texts), tuple(dishes), tuple(openers), seed)


def _silent(what: str) -> None:
    """Nobody is told."""
