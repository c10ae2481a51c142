"""What a caller may ask of a model when it writes: names, what they mean, and how they are checked."""

import math
from dataclasses import dataclass, fields
from difflib import get_close_matches
from typing import Any, TypedDict

from mezzotint.engine.checks import is_number, is_whole
from mezzotint.engine.repetition import Repetition
from mezzotint.errors import ConfigError, RequestError


class WritingOptions(TypedDict, total=False):
    """The keyword arguments of `Model.generate`, `stream` and `fill`; `Options` says what each one does."""

    mode: str
    preset: str
    max_new_tokens: int
    temperature: float
    top_p: float
    top_k: int
    seed: int
    stop: str | tuple[str, ...] | list[str]
    system: str
    raw: bool
    steps: int
    block: int
    threshold: float
    factor: float
    entropy_bound: float
    tokens_per_step: int
    correct: bool
    accept: float
    repetition_penalty: float
    frequency_penalty: float
    presence_penalty: float
    no_repeat_ngram_size: int
    cfg_scale: float
    verifier: str


@dataclass(frozen=True, kw_only=True)
class Options:
    """One request's wishes; None leaves a choice to the model."""

    mode: str | None = None
    """How a causal model with a drafter writes: "verify", "ar" or "diffusion"."""
    preset: str | None = None
    """How a diffusion model decodes: a name of `mezzotint models presets`."""
    max_new_tokens: int | None = None
    """Most new tokens."""
    temperature: float | None = None
    """0 takes the likeliest token; the checkpoint's own if not given."""
    top_p: float | None = None
    """Draw among the fewest tokens that together have this probability."""
    top_k: int | None = None
    """Draw among this many likeliest tokens; 0 is all."""
    seed: int = 0
    """Of the noise; the same seed gives the same text on the same backend."""
    stop: tuple[str, ...] = ()
    """Strings that end the answer and are no part of it."""
    system: str | None = None
    """How the model should behave: the first message of the chat."""
    raw: bool = False
    """Continue the prompt as it stands, without the chat template."""
    steps: int | None = None
    """Denoising steps: of the whole text, or at most of a block."""
    block: int | None = None
    """Columns that are written at a time."""
    threshold: float | None = None
    """A step writes columns surer than this probability."""
    factor: float | None = None
    """A step writes n columns if (n + 1) (1 - the least probability) is below this (Fast-dLLM, 2505.22618)."""
    entropy_bound: float | None = None
    """A step writes the surest columns whose entropies sum to at most so many nats (EB-Sampler, 2505.24857)."""
    tokens_per_step: int | None = None
    """A step writes this many columns, the surest."""
    correct: bool | None = None
    """Whether later steps may reopen doubtful tokens."""
    accept: float | None = None
    """Least probability of a token, as a share of the network's first choice, that is not reopened."""
    repetition_penalty: float | None = None
    """Divides the logits of tokens that the text has; 1 does nothing."""
    frequency_penalty: float | None = None
    """Taken off a token's logit for every time the answer has it."""
    presence_penalty: float | None = None
    """Taken off a token's logit if the answer has it."""
    no_repeat_ngram_size: int | None = None
    """So many tokens in a row never come twice in an answer; 0 allows all."""
    cfg_scale: float | None = None
    """Classifier-free guidance by the prompt; 0 is none."""
    verifier: str | None = None
    """A causal model of the same vocabulary that has the last word, for the presets that ask for one."""

    def __post_init__(self) -> None:
        _check_numbers(self)
        if self.mode not in (None, "ar", "verify", "diffusion"):
            raise ConfigError(f"there is no mode {self.mode!r}: use verify, ar or diffusion")

    @classmethod
    def of(cls, given: dict[str, Any]) -> "Options":
        """Options from keyword arguments.

        Raises:
            ConfigError: an unknown name.
            RequestError: a value that cannot be.
        """
        known = {field.name for field in fields(cls)}
        for name in given.keys() - known:
            near = get_close_matches(name, known, 1)
            guess = f"did you mean {near[0]}?" if near else f"there are {', '.join(sorted(known))}"
            raise ConfigError(f"there is no option {name!r}: {guess}")
        stop = given.get("stop", ())
        values: dict[str, Any] = {**given, "stop": (stop,) if isinstance(stop, str) else tuple(stop or ())}
        return cls(**values)

    def given(self) -> dict[str, Any]:
        """What differs from leaving everything to the model."""
        plain = {field.name: field.default for field in fields(self)}
        return {name: getattr(self, name) for name, default in plain.items() if getattr(self, name) != default}

    def refuse(self, takes: frozenset[str], who: str) -> None:
        """Refuse options that a model does not take.

        Raises:
            ConfigError: the first such option; the message has those that `who` takes.
        """
        for name in self.given():
            if name not in takes and name not in EVERYBODY:
                others = ", ".join(sorted(takes))
                raise ConfigError(f"{who} takes no {name.replace('_', '-')}: it takes {others or 'none but the usual'}")

    def repetition(self, defaults: dict[str, Any]) -> Repetition:
        """The penalties, those of `defaults` where the caller says nothing."""
        names = [field.name for field in fields(Repetition)]
        asked = {name: value for name in names if (value := getattr(self, name)) is not None}
        return Repetition(**{name: defaults[name] for name in names if name in defaults} | asked)


EVERYBODY = frozenset({"max_new_tokens", "seed", "stop"})
"""Options that every model takes."""
REPETITION = frozenset(field.name for field in fields(Repetition))


def _check_numbers(options: Options) -> None:
    """Raises RequestError for the first number that cannot be."""
    for name, least in (("max_new_tokens", 1), ("steps", 1), ("block", 1), ("tokens_per_step", 1), ("top_k", 0)):
        value = getattr(options, name)
        if value is not None and (not is_whole(value) or value < least):
            raise RequestError(f"{name} {value!r} is no whole number from {least} up")
    if not is_whole(options.seed) or not 0 <= options.seed < 2**63:
        raise RequestError(f"seed {options.seed!r} is no whole number from 0 to 2**63 - 1: use another")
    for name, least, most in (
        ("temperature", 0, math.inf),
        ("factor", 0, math.inf),
        ("entropy_bound", 0, math.inf),
        ("cfg_scale", 0, math.inf),
        ("accept", 0, 1),
        ("threshold", -math.inf, 1),
        ("top_p", 0, 1),
    ):
        value = getattr(options, name)
        if value is None:
            continue
        if not is_number(value) or not least <= value <= most or math.isinf(value) or (name == "top_p" and value == 0):
            limits = f"from {least:g} up" if most == math.inf else f"up to {most:g}" if least == -math.inf else None
            raise RequestError(f"{name} {value!r} is no number {limits or f'from {least:g} to {most:g}'}")
    for name in ("system", "mode", "preset", "verifier"):
        value = getattr(options, name)
        if value is not None and not isinstance(value, str):
            raise RequestError(f"{name} {value!r} is no text: give a string")
