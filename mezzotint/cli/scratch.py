"""`mezzotint generate --model RUN`: texts of a model that `mezzotint train` made from scratch."""

import time
from pathlib import Path

from mezzotint.cli.answer import Answer, last
from mezzotint.cli.options import Settings
from mezzotint.errors import ConfigError, RequestError

MOST_STEPS = 10_000
"""Far beyond what changes a text; a larger number is a slip that would run for hours."""


def write(folder: Path, prompt: str, settings: Settings, *, steps: int, as_json: bool, live: bool) -> None:
    """Continue a prompt, or fill its holes, and print the text."""
    _refuse(settings)
    if not 1 <= steps <= MOST_STEPS:
        raise RequestError(f"cannot write in {steps} steps: ask for 1 to {MOST_STEPS}")
    from mezzotint.models.trained import TrainedModel
    from mezzotint.plugins import kind_of

    settings.limit_threads()
    begun = time.perf_counter()
    model = TrainedModel.load(folder)
    loaded = time.perf_counter()
    columns = model.prompt(prompt, settings.max_new_tokens)
    frames = model.decode(model.canvas([columns], settings.seed), steps)
    decoded = model.vocabulary.decode
    canvas, forwards = last(frames, lambda token, undecided: decoded([token]), painted=live and not as_json)
    there = [token for token in model.form.written(canvas)[0].tolist() if token != model.form.blank]
    Answer(
        text=model.texts(canvas)[0],
        tokens=len(there) - sum(column is not None for column in columns),
        seconds=time.perf_counter() - loaded,
        forwards=forwards,
        mode=kind_of(model.shape.family),
        model=str(folder),
        finish_reason="length",
        load_seconds=loaded - begun,
    ).say(as_json=as_json)


def _refuse(settings: Settings) -> None:
    """Raises ConfigError for options that belong to the hybrid models."""
    names = ("mode", "temperature", "top_p", "system", "block", "rule", "level", "preset", "verifier", "family")
    if given := settings.given(*names, "correct", "accept", "backend"):
        raise ConfigError(
            f"--{given[0].replace('_', '-')} is for models that answer: one trained from scratch writes with its "
            "family's own sampler; it knows --steps, --max-new-tokens and --seed"
        )
