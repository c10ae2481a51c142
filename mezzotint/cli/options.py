"""The options that `generate` and `chat` share, checked before anything heavy is loaded."""

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import wraps
from typing import Annotated, Any, cast, get_type_hints

import typer

from mezzotint.errors import ConfigError, RequestError

MODES = ("verify", "ar", "diffusion")
BACKENDS = ("auto", "native", "torch")
DEFAULT_MODEL = "smollm2-135m-instruct"
LEVELS = {"threshold": 0.2, "factor": 1.0, "entropy": 0.1, "topk": 2.0}
"""The rules of diffusion mode and the number each takes if none is given."""

DIFFUSION = ("block", "rule", "level", "steps", "correct", "accept")
"""Fields of `Settings` that belong to diffusion mode."""

_WRITING = "Writing"
_DIFFUSION = "Diffusion mode"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How to write, as the command line gives it."""

    mode: Annotated[
        str,
        typer.Option(
            help="verify: drafts by diffusion, checks by the causal pass, same text as ar, faster. "
            "ar: one token at a time. diffusion: whole blocks from noise, fewest passes, other text.",
            metavar="|".join(MODES),
            rich_help_panel=_WRITING,
        ),
    ] = "verify"
    max_new_tokens: Annotated[
        int | None, typer.Option(metavar="N", help="Stop after this many tokens (256).", rich_help_panel=_WRITING)
    ] = None
    temperature: Annotated[
        float | None,
        typer.Option(
            metavar="T",
            help="0 writes the likeliest text, 1 samples freely (0, or the preset's).",
            rich_help_panel=_WRITING,
        ),
    ] = None
    top_p: Annotated[
        float | None,
        typer.Option(
            metavar="P",
            help="Sample among the likeliest tokens that together hold this much probability (1, or the preset's).",
            rich_help_panel=_WRITING,
        ),
    ] = None
    seed: Annotated[
        int, typer.Option(metavar="S", help="The same seed gives the same text.", rich_help_panel=_WRITING)
    ] = 0
    system: Annotated[
        str | None, typer.Option(metavar="TEXT", help="How the model should behave.", rich_help_panel=_WRITING)
    ] = None
    block: Annotated[
        int | None, typer.Option(metavar="N", help="Tokens per block (6).", rich_help_panel=_DIFFUSION)
    ] = None
    rule: Annotated[
        str | None,
        typer.Option(
            metavar="|".join(LEVELS),
            help="Which tokens of a block to keep each step: those above a probability (threshold), by the factor "
            "bound, by an entropy bound in nats, or the LEVEL surest (topk).",
            rich_help_panel=_DIFFUSION,
        ),
    ] = None
    level: Annotated[
        float | None,
        typer.Option(
            metavar="X",
            help=f"The rule's number ({', '.join(f'{k} {v:g}' for k, v in LEVELS.items())}); fewer steps, rougher "
            "text with a lower threshold or anything else higher.",
            rich_help_panel=_DIFFUSION,
        ),
    ] = None
    steps: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Most denoising steps per block (threshold: 1, else as needed), what is then open is left to the "
            "next one; steps of the whole text for a model from scratch (32).",
            rich_help_panel=_DIFFUSION,
        ),
    ] = None
    preset: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="How a published diffusion model decodes (mezzotint models presets); its authors' way if not given.",
            rich_help_panel=_DIFFUSION,
        ),
    ] = None
    family: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="What a published model of a generic type was turned into, such as idlm or diffullama.",
            rich_help_panel=_DIFFUSION,
        ),
    ] = None
    verifier: Annotated[
        str | None,
        typer.Option(
            metavar="FOLDER",
            help="A causal model of the same vocabulary whose text is written, for --preset judged.",
            rich_help_panel=_DIFFUSION,
        ),
    ] = None
    correct: Annotated[
        bool | None,
        typer.Option(
            "--correct/--no-correct", help="Let later steps take back doubtful tokens.", rich_help_panel=_DIFFUSION
        ),
    ] = None
    accept: Annotated[
        float | None,
        typer.Option(
            metavar="P",
            help="Keep a token that the network gives at least this share of its first choice's probability (0.1); "
            "lower is faster and rougher, 1 is the greedy text.",
            rich_help_panel=_DIFFUSION,
        ),
    ] = None
    model: Annotated[
        str, typer.Option(metavar="NAME", help="A name from `mezzotint models`, a folder, a .gguf or a run.")
    ] = DEFAULT_MODEL
    backend: Annotated[str, typer.Option(metavar="|".join(BACKENDS), help="auto takes the fastest there is.")] = "auto"
    threads: Annotated[int | None, typer.Option(metavar="N", help="Processor cores to use (all).")] = None

    @property
    def most_tokens(self) -> int:
        """`max_new_tokens`, or what models that answer take without it."""
        return 256 if self.max_new_tokens is None else self.max_new_tokens

    def given(self, *names: str) -> list[str]:
        """Those of these fields that are not as they are when nothing is asked for."""
        plain = Settings()
        return [name for name in names if getattr(self, name) != getattr(plain, name)]

    def check(self) -> None:
        """Raises RequestError or ConfigError for the first value that cannot be with a model that answers."""
        self.check_writing()
        self._check_diffusion()

    def check_writing(self) -> None:
        """Raises them for the first value that cannot be with any model."""
        _one_of("mode", self.mode, MODES)
        _one_of("backend", self.backend, BACKENDS)
        if self.most_tokens < 1:
            raise RequestError(f"cannot generate {self.most_tokens} tokens: ask for at least 1")
        if self.temperature is not None and not 0 <= self.temperature < math.inf:
            raise RequestError(f"temperature {self.temperature:g} is not a number from 0 up: 0 is the likeliest text")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise RequestError(f"top-p {self.top_p:g} is not above 0 and at most 1: 1 keeps every token")
        if not 0 <= self.seed < 2**63:
            raise RequestError(f"seed {self.seed} is not from 0 to 2**63 - 1: use another")
        if self.block is not None and self.block < 1:
            raise RequestError(f"cannot write in blocks of {self.block} tokens: ask for at least 1")
        if self.steps is not None and self.steps < 1:
            raise RequestError(f"cannot write in {self.steps} steps: ask for at least 1")
        if self.threads is not None and self.threads < 1:
            raise ConfigError(f"cannot run on {self.threads} threads: use at least 1, or leave --threads out")

    def limit_threads(self) -> None:
        """For models that run in torch; the default one has threads of its own."""
        if self.threads is not None:
            import torch

            torch.set_num_threads(self.threads)

    def writing(self) -> dict[str, Any]:
        """The keyword arguments of `Model.generate` and `Model.stream`."""
        options: dict[str, Any] = {
            "mode": self.mode,
            "max_new_tokens": self.most_tokens,
            "seed": self.seed,
        }
        if self.temperature is not None:
            options["temperature"] = self.temperature
        if self.top_p is not None:
            options["top_p"] = self.top_p
        if self.block is not None:
            options["block"] = self.block
        if self.steps is not None:
            options["steps"] = self.steps
        if self.rule is not None or self.level is not None:
            rule = self.rule or "threshold"
            options |= {"rule": rule, "level": LEVELS[rule] if self.level is None else self.level}
        if self.correct is not None:
            options["correct"] = self.correct
        if self.accept is not None:
            options["accept"] = self.accept
        return options

    def _check_diffusion(self) -> None:
        given = [name for name in DIFFUSION if getattr(self, name) is not None]
        if self.preset is not None:
            raise ConfigError(f"--preset is for published diffusion models: {self.model} has --rule and --level")
        if self.family is not None:
            raise ConfigError(f"--family is for published diffusion models in folders: {self.model} is none")
        if self.verifier is not None:
            raise ConfigError(f"--verifier is for published diffusion models: {self.model} checks its own drafts")
        if given and self.mode != "diffusion":
            raise ConfigError(f"--{given[0]} belongs to --mode diffusion: leave it out of --mode {self.mode}")
        if self.accept is not None and self.correct is False:
            raise ConfigError("--accept says what is taken back, --no-correct takes nothing back: leave one out")
        if self.accept is not None and not 0 <= self.accept <= 1:
            raise RequestError(f"accept {self.accept:g} is not from 0 to 1: it is a share of a probability")
        rule = self.rule or "threshold"
        _one_of("rule", rule, tuple(LEVELS))
        level = LEVELS[rule] if self.level is None else self.level
        if rule == "threshold" and not 0 <= level <= 1:
            raise RequestError(f"threshold {level:g} is not from 0 to 1: it is a probability")
        if rule in ("factor", "entropy") and not 0 <= level < math.inf:
            raise RequestError(f"{rule} {level:g} is not a number from 0 up: {LEVELS[rule]:g} is usual")
        if rule == "topk" and (level < 1 or level != int(level)):
            raise RequestError(f"topk {level:g} is not a whole number from 1 up: it counts tokens per step")


def spread(command: Callable[..., None]) -> Callable[..., None]:
    """A command with a parameter `settings: Settings`, for Typer: every field of it becomes an option."""
    signature = inspect.signature(command)
    own = [parameter for name, parameter in signature.parameters.items() if name != "settings"]
    hints = get_type_hints(Settings, include_extras=True)
    names = [field.name for field in fields(Settings)]
    shared = [
        inspect.Parameter(
            field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=hints[field.name]
        )
        for field in fields(Settings)
    ]

    @wraps(command)
    def run(**given: Any) -> None:
        settings = Settings(**{name: given.pop(name) for name in names})
        settings.check_writing()
        command(settings=settings, **given)

    keyword_only = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in own]
    cast(Any, run).__signature__ = signature.replace(parameters=[*keyword_only, *shared])
    return run


def _one_of(what: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise ConfigError(f"there is no {what} {value!r}: use {', '.join(known[:-1])} or {known[-1]}")
