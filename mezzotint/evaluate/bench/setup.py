"""What a benchmark is asked to do, and what its engines did, raw."""

from dataclasses import dataclass, field
from typing import Any

from pydantic import Field

from mezzotint.checkpoints import DEFAULT_MODEL
from mezzotint.config import config
from mezzotint.errors import ConfigError
from mezzotint.evaluate.bench.engines import BenchTask
from mezzotint.evaluate.bench.exact_match import Question
from mezzotint.evaluate.bench.prompts import Prompt, prompts, questions
from mezzotint.evaluate.bench.speed import Timing

OURS = ("ar", "diffusion", "verify")
OTHERS = ("llama.cpp", "transformers-bf16", "transformers-fp32")
ENGINES = OURS + OTHERS


@config
class Bench:
    """What is measured."""

    model: str = DEFAULT_MODEL
    engines: tuple[str, ...] = ENGINES
    prompts: int = Field(60, gt=0)
    """Held-out chat prompts."""
    new_tokens: int = Field(128, gt=1)
    """Most new tokens of each answer."""
    rounds: int = Field(10, gt=0)
    """Turns each engine gets; the prompts are dealt over them."""
    questions: int = Field(240, ge=0)
    """Short questions with known answers."""
    asked: tuple[str, ...] = (*OURS, "llama.cpp")
    """Engines that get the questions.  transformers, too slow to wait for, reads the same weights as they do."""
    question_tokens: int = Field(24, gt=0)
    """Most new tokens of an answer to a question; only its first line counts."""
    threads: int = Field(1, gt=0)


@dataclass
class Raced:
    """What the engines did, raw."""

    bench: Bench
    prompts: list[Prompt]
    questions: list[Question]
    tasks: dict[str, BenchTask]
    """By id of the prompt."""
    greeting: BenchTask
    """What engines warm up with."""
    asked: dict[str, BenchTask] = field(default_factory=dict)
    """By id of the question."""
    loads: dict[str, dict[str, Any]] = field(default_factory=dict)
    timings: dict[str, list[Timing]] = field(default_factory=dict)
    replies: dict[str, dict[str, list[int]]] = field(default_factory=dict)
    """Tokens by engine and question."""
    missing: dict[str, str] = field(default_factory=dict)
    """Why an engine is not there."""


def check(bench: Bench) -> None:
    """Refuse settings that ask for what does not exist.

    Raises:
        ConfigError: an unknown or repeated engine, or more prompts or questions than there are.
    """
    unknown = [name for name in (*bench.engines, *bench.asked) if name not in ENGINES]
    if unknown or not bench.engines:
        named = f"there is no engine {unknown[0]!r}" if unknown else "no engine was named"
        raise ConfigError(f"{named}: choose from {', '.join(ENGINES)}")
    if len(set(bench.engines)) < len(bench.engines):
        raise ConfigError(f"an engine is named twice in {','.join(bench.engines)}: name each once")
    for what, wanted, there in (
        ("prompts", bench.prompts, len(prompts())),
        ("questions", bench.questions, len(questions())),
    ):
        if wanted > there:
            raise ConfigError(f"cannot take {wanted} {what}: there are {there}, ask for at most as many")
