"""`mezzotint generate --model FOLDER` for a published diffusion model in Hugging Face layout."""

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING

from mezzotint.cli.adapted import HOLE
from mezzotint.cli.answer import Answer, last
from mezzotint.cli.options import Settings
from mezzotint.errors import CheckpointError, ConfigError

if TYPE_CHECKING:
    from mezzotint.data.tokenizer import Tokenizer
    from mezzotint.decode.methods.diffusion_gemma import UniformCanvases
    from mezzotint.decode.methods.dreamon import DreamOn
    from mezzotint.decode.methods.registry import Method, Running
    from mezzotint.denoisers.published.open import PublishedModel


def folder_of(model: str, family: str | None = None) -> Path | None:
    """The folder of a published diffusion model; None if `model` is something else, such as a causal model.

    A `family` that the user names makes it one.
    """
    path = Path(model)
    if not (path / "config.json").is_file():
        return None
    if family is not None:
        return path
    from mezzotint.denoisers.published.families import family_of

    try:
        config = json.loads((path / "config.json").read_text(encoding="utf-8"))
        found = family_of(config, str(path / "config.json")) if isinstance(config, dict) else "ar"
    except (OSError, ValueError, RecursionError, CheckpointError):
        return None  # whoever opens it will say what is wrong
    return path if found != "ar" else None


def write(folder: Path, prompt: str, settings: Settings, *, as_json: bool, live: bool) -> None:
    """Answer a prompt as the model's authors decode, or by another preset; fill its blanks where the preset can."""
    from mezzotint.decode.methods.dreamon import DreamOn
    from mezzotint.denoisers.published.identify import Overrides
    from mezzotint.denoisers.published.open import open_published

    settings.limit_threads()
    begun = time.perf_counter()
    published = open_published(folder, given=Overrides(family=settings.family))
    how, name = _way(published, settings)
    tokenizer = _tokenizer(published)
    pieces = HOLE.split(prompt)[::2] if isinstance(how, DreamOn) else [prompt]
    whole = len(pieces) > 1
    if isinstance(how, DreamOn) and whole:
        run, start = _filled(published, tokenizer, pieces, how, settings), 0
    else:
        run, start = _continued(published, tokenizer, prompt, how, settings)
    loaded = time.perf_counter()
    last(
        iter(run),
        lambda token, undecided: "░" if undecided else tokenizer.decode([token]),
        painted=live and not as_json,
        start=start,
    )
    seconds, written = time.perf_counter() - loaded, run.result()
    tokens = len(written.texts[0])
    shown = written.canvas.tokens[0].tolist() if whole else written.texts[0]
    Answer(
        text=tokenizer.decode([token for token in shown if token not in published.stop_ids]),
        tokens=tokens,
        seconds=seconds,
        forwards=written.passes,
        mode=name,
        model=published.name,
        finish_reason="stop" if tokens < settings.most_tokens else "length",
        load_seconds=loaded - begun,
    ).say(as_json=as_json)


def _continued(
    published: "PublishedModel",
    tokenizer: "Tokenizer",
    prompt: str,
    how: "Method | UniformCanvases",
    settings: Settings,
) -> tuple["Running", int]:
    """A generation behind the prompt, and where it begins."""
    from mezzotint.denoisers.published.open import open_published
    from mezzotint.models.published import begin

    verifier = None if settings.verifier is None else open_published(settings.verifier)
    ids = _ids(tokenizer, prompt, settings)
    if len(ids) + settings.most_tokens > published.context:
        raise ConfigError(
            f"the prompt has {len(ids)} tokens and {settings.most_tokens} more are asked for: {published.name} "
            f"reads at most {published.context}"
        )
    return begin(published, [ids], settings.most_tokens, how, [settings.seed], verifier), len(ids)


def _filled(
    published: "PublishedModel", tokenizer: "Tokenizer", pieces: list[str], how: "DreamOn", settings: Settings
) -> "Running":
    """A generation that fills the blanks between the pieces of a text."""
    from mezzotint.models.published import around, fill

    if settings.system is not None:
        raise ConfigError("--system is for prompts that are answered, and this one has a blank (___): leave one out")
    row = around(published, [tokenizer.encode(piece) for piece in pieces], settings.most_tokens, how)
    return fill(published, [row], settings.most_tokens, how, [settings.seed])


def _tokenizer(published: "PublishedModel") -> "Tokenizer":
    from mezzotint.data.tokenizer import Tokenizer

    if published.tokenizer is None:
        raise CheckpointError(
            f"{published.name} has no tokenizer.json, nor a vocab.json and merges.txt of a known class: it cannot read "
            "or write text"
        )
    return Tokenizer.from_spec(published.tokenizer)


def _ids(tokenizer: "Tokenizer", prompt: str, settings: Settings) -> list[int]:
    if not tokenizer.has_chat:
        if settings.system is not None:
            raise ConfigError("--system needs a chat template, and this model has none")
        return tokenizer.encode(prompt)
    system = [{"role": "system", "content": settings.system}] if settings.system is not None else []
    return tokenizer.chat([*system, {"role": "user", "content": prompt}])


def _way(published: "PublishedModel", settings: Settings) -> tuple["Method | UniformCanvases", str]:
    """The preset asked for, or the usual one, with the numbers that the command line gives; and its name."""
    from mezzotint.decode.methods.registry import tuned
    from mezzotint.models.published import named

    if refused := settings.given("mode", "rule", "level", "correct", "accept", "backend"):
        raise ConfigError(f"--{refused[0]} is for the default model: published ones take --preset, --steps and --block")
    if settings.verifier is not None and settings.preset != "judged":
        raise ConfigError("--verifier is for --preset judged: leave it out, or add the preset")
    name = settings.preset or published.method
    given = {key: getattr(settings, key) for key in settings.given("temperature", "top_p", "steps", "block")}
    return tuned(named(published, name), name, **given), name
