"""The options that `generate` and `chat` share, checked before anything heavy is loaded."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import wraps
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from mezzotint.checkpoints import DEFAULT_MODEL
from mezzotint.errors import ConfigError
from mezzotint.models.options import Options

if TYPE_CHECKING:
    from mezzotint.models.base import Model

MODES = ("verify", "ar", "diffusion")
BACKENDS = ("auto", "native", "torch")
DTYPES = ("float32", "bfloat16", "float16")

_WRITING = "Writing"
_REPETITION = "Repetition"
_DIFFUSION = "Diffusion"
_OPENING = "Opening published models"

_HELP: dict[str, tuple[str, str, str]] = {
    "mode": (
        _WRITING,
        "|".join(MODES),
        "verify: drafts by diffusion, checks by the causal pass, same text as ar, faster. ar: one token at a time. "
        "diffusion: whole blocks from noise, fewest passes, other text. (verify)",
    ),
    "max_new_tokens": (_WRITING, "N", "Stop after this many tokens (256; behind a text that is continued 32)."),
    "temperature": (_WRITING, "T", "0 writes the likeliest text, 1 samples freely (the checkpoint's own, or 0)."),
    "top_p": (_WRITING, "P", "Sample among the likeliest tokens that together hold this much probability."),
    "top_k": (_WRITING, "K", "Sample among this many likeliest tokens; 0 is all."),
    "seed": (_WRITING, "S", "The same seed gives the same text (0)."),
    "stop": (_WRITING, "TEXT", "End the answer before this text; repeatable."),
    "system": (_WRITING, "TEXT", "How the model should behave."),
    "raw": (_WRITING, "", "Continue the prompt as it stands, without the chat template."),
    "repetition_penalty": (_REPETITION, "X", "Divide the logits of tokens that the text has; 1 does nothing."),
    "frequency_penalty": (_REPETITION, "X", "Taken off a token's logit for every time the answer has it."),
    "presence_penalty": (_REPETITION, "X", "Taken off a token's logit if the answer has it."),
    "no_repeat_ngram_size": (_REPETITION, "N", "So many tokens in a row never come twice; 0 allows all."),
    "preset": (
        _DIFFUSION,
        "NAME",
        "How a diffusion model decodes (mezzotint models presets); its authors' way if not given.",
    ),
    "block": (_DIFFUSION, "N", "Tokens that are written at a time (--mode diffusion: 6)."),
    "steps": (_DIFFUSION, "N", "Denoising steps of the whole text, or at most of a block in --mode diffusion."),
    "threshold": (
        _DIFFUSION,
        "P",
        "A step writes tokens surer than this (--mode diffusion: 0.2); lower is faster, rougher.",
    ),
    "factor": (_DIFFUSION, "X", "A step writes n tokens if (n + 1) (1 - the least probability) is below this."),
    "entropy_bound": (_DIFFUSION, "X", "A step writes the surest tokens whose entropies sum to at most so many nats."),
    "tokens_per_step": (_DIFFUSION, "N", "A step writes this many tokens, the surest."),
    "correct": (_DIFFUSION, "", "Let later steps reopen doubtful tokens (--mode diffusion)."),
    "accept": (
        _DIFFUSION,
        "P",
        "Keep a token that the network gives at least this share of its first choice's probability (0.1); lower is "
        "faster and rougher, 1 is the greedy text.",
    ),
    "cfg_scale": (_DIFFUSION, "X", "Classifier-free guidance by the prompt; 0 is none."),
    "verifier": (_DIFFUSION, "FOLDER", "A causal model of the same vocabulary that has the last word."),
}


@dataclass(frozen=True, kw_only=True)
class Settings:
    """A model and how to write with it, as the command line gives them."""

    options: Options = Options()  # noqa: RUF009 - frozen and without state
    model: Annotated[
        str,
        typer.Option(
            metavar="NAME", help="A name from `mezzotint models`, a folder, a .gguf, a run, or a hub id in the cache."
        ),
    ] = DEFAULT_MODEL
    backend: Annotated[str, typer.Option(metavar="|".join(BACKENDS), help="auto takes the fastest there is.")] = "auto"
    threads: Annotated[int | None, typer.Option(metavar="N", help="Processor cores to use (all).")] = None
    online: Annotated[bool, typer.Option("--online", help="Fetch a hub id that is not in the local cache.")] = False
    dtype: Annotated[
        str | None, typer.Option(metavar="|".join(DTYPES), help="Of the weights (float32).", rich_help_panel=_OPENING)
    ] = None
    family: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="What a model of a generic type was turned into, such as idlm or diffullama.",
            rich_help_panel=_OPENING,
        ),
    ] = None
    mask_id: Annotated[
        int | None, typer.Option(metavar="ID", help="The mask, where no file names it.", rich_help_panel=_OPENING)
    ] = None
    block_length: Annotated[
        int | None,
        typer.Option(metavar="N", help="Columns of a block in training, where no file says.", rich_help_panel=_OPENING),
    ] = None
    sampler: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            "-s",
            metavar="NAME=VALUE",
            help="A setting of the sampler of a run trained from scratch: corrections=64, sampler=first-hitting.",
        ),
    ] = None

    def check(self) -> None:
        """Raises ConfigError for what cannot be, before anything is loaded."""
        if self.backend not in BACKENDS:
            raise ConfigError(f"there is no backend {self.backend!r}: use {', '.join(BACKENDS)}")
        if self.dtype is not None and self.dtype not in DTYPES:
            raise ConfigError(f"there is no dtype {self.dtype!r}: use {', '.join(DTYPES)}")
        if self.threads is not None and self.threads < 1:
            raise ConfigError(f"cannot run on {self.threads} threads: use at least 1, or leave --threads out")

    def writing(self) -> dict[str, Any]:
        """The keyword arguments of `Model.generate`, `stream` and `fill`."""
        return self.options.given()

    def load(self) -> "Model":
        """The model; raises what `mezzotint.load` does."""
        from mezzotint import api

        names = ("dtype", "family", "mask_id", "block_length", "sampler")
        opening = {name: value for name in names if (value := getattr(self, name)) not in (None, [])}
        return api.load(self.model, backend=self.backend, threads=self.threads, online=self.online, **opening)


def spread(command: Callable[..., None]) -> Callable[..., None]:
    """A command with a parameter `settings: Settings`, for Typer: all that settings hold become options."""
    signature = inspect.signature(command)
    own = [parameter for name, parameter in signature.parameters.items() if name != "settings"]
    hints = get_type_hints(Settings, include_extras=True)
    opening = [field for field in fields(Settings) if field.name != "options"]
    writing = [_option(field.name, field.default) for field in fields(Options)]
    shared = [
        inspect.Parameter(f.name, inspect.Parameter.KEYWORD_ONLY, default=f.default, annotation=hints[f.name])
        for f in opening
    ]

    @wraps(command)
    def run(**given: Any) -> None:
        options = {field.name: given.pop(field.name) for field in fields(Options)}
        options["stop"] = tuple(options["stop"] or ())
        settings = Settings(options=Options(**options), **{field.name: given.pop(field.name) for field in opening})
        settings.check()
        command(settings=settings, **given)

    keyword_only = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in own]
    run.__dict__["__signature__"] = signature.replace(parameters=[*keyword_only, *writing, *shared])
    return run


def _option(name: str, default: Any) -> inspect.Parameter:
    """A field of `Options` as an option."""
    panel, metavar, text = _HELP[name]
    kind: Any = get_type_hints(Options)[name]
    flags = ["--" + name.replace("_", "-")]
    if name == "correct":
        flags = ["--correct/--no-correct"]
    if name == "stop":
        kind, default = list[str] | None, None
    option = typer.Option(*flags, metavar=metavar or None, help=text, rich_help_panel=panel, show_default=False)
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, option])
