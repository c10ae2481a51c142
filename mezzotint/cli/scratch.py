"""`mezzotint generate --model RUN`: texts of a model that `mezzotint train` made from scratch."""

import json
import sys
import time
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from mezzotint.cli.options import Settings
from mezzotint.errors import ConfigError, RequestError

MOST_STEPS = 10_000
"""Far beyond what changes a text; a larger number is a slip that would run for hours."""

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mezzotint.decode.canvas import Canvas
    from mezzotint.evaluate.scratch import Scratch


def write(folder: Path, prompt: str, settings: Settings, *, steps: int, as_json: bool, live: bool) -> None:
    """Continue a prompt, or fill its holes, and print the text."""
    _refuse(settings)
    if not 1 <= steps <= MOST_STEPS:
        raise RequestError(f"cannot write in {steps} steps: ask for 1 to {MOST_STEPS}")
    from mezzotint.evaluate.scratch import Scratch

    begun = time.perf_counter()
    model = Scratch.load(folder)
    loaded = time.perf_counter()
    asked = settings.max_new_tokens if settings.max_new_tokens != Settings.max_new_tokens else None
    columns = model.prompt(prompt, asked)
    frames = model.decode(model.canvas([columns], settings.seed), steps)
    if live and not as_json and sys.stdout.isatty():
        frames = _painted(model, frames)
    forwards, canvas = deque(enumerate(frames, 1), maxlen=1).pop()
    seconds = time.perf_counter() - loaded
    text = model.vocabulary.decode(canvas.tokens[0].tolist())
    tokens = sum(column is None for column in columns)
    numbers: dict[str, Any] = {
        "text": text,
        "tokens": tokens,
        "seconds": round(seconds, 4),
        "tokens_per_second": round(tokens / seconds, 2),
        "forwards": forwards,
        "tokens_per_forward": round(tokens / forwards, 3),
        "mode": model.shape.family.kind,
        "model": str(folder),
        "finish_reason": "length",
        "load_seconds": round(loaded - begun, 3),
    }
    if as_json:
        sys.stdout.write(json.dumps(numbers, ensure_ascii=False) + "\n")
        return
    typer.echo(text)
    line = f"{tokens} tokens in {seconds:.2f} s, {tokens / seconds:.0f} tokens/s, {tokens / forwards:.2f} per forward"
    typer.secho(line, dim=True, err=True)


def _refuse(settings: Settings) -> None:
    """Raises ConfigError for options that belong to the hybrid models."""
    plain = Settings()
    names = ("mode", "temperature", "top_p", "system", "block", "rule", "level", "preset", "correct", "backend")
    given = [name for name in names if getattr(settings, name) != getattr(plain, name)]
    if given:
        raise ConfigError(
            f"--{given[0].replace('_', '-')} is for models that answer: one trained from scratch writes with its "
            "family's own sampler; it knows --steps, --max-new-tokens and --seed"
        )


def _painted(model: "Scratch", frames: "Iterator[Canvas]") -> "Iterator[Canvas]":
    """The same canvases, each painted in the terminal as it comes."""
    from rich.live import Live
    from rich.text import Text

    with Live(transient=True, refresh_per_second=20) as screen:
        for canvas in frames:
            line = Text()
            for token, undecided in zip(canvas.tokens[0].tolist(), canvas.open[0].tolist(), strict=True):
                line.append(model.vocabulary.decode([token]), style="dim" if undecided else "bold")
            screen.update(line)
            yield canvas
