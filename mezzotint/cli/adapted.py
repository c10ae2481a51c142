"""`mezzotint generate --model RUN` for causal models that were turned into diffusion models: texts, and their holes."""

import json
import math
import re
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from mezzotint.cli.answer import Answer, last
from mezzotint.cli.options import Settings
from mezzotint.errors import CheckpointError, ConfigError

if TYPE_CHECKING:
    from mezzotint.data.tokenizer import Tokenizer
    from mezzotint.decode.methods.presets import Preset
    from mezzotint.decode.methods.registry import Running
    from mezzotint.decode.methods.speculative import SelfVerified
    from mezzotint.decode.run import MaskedModel

HOLE = re.compile(r" ?(_{3,})")
"""Tokens to be written, as many as underscores; the blank before them is theirs, since tokens carry it."""
TOKENS = 32
"""New tokens where none are asked for and the prompt has no hole."""


def folder_of(model: str, family: str | None = None) -> Path | None:
    """Where the model of such a run, or an exported one, lies; None if `model` names something else, or has a family.

    Runs say themselves what they are.
    """
    if family is not None:
        return None
    from mezzotint.checkpoints.llama_variants import LLAMA_SHAPED

    for folder in (Path(model) / "export", Path(model)):
        try:
            config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            continue
        if not isinstance(config, dict) or config.get("model_type") not in LLAMA_SHAPED:
            continue
        if None not in (config.get("is_causal"), config.get("mask_token_id"), config.get("shift_logits")):
            return folder
    return None


def write(folder: Path, prompt: str, settings: Settings, *, as_json: bool, live: bool) -> None:
    """Continue a prompt, or fill its holes, and print the whole text."""
    from mezzotint.data.tokenizer import Tokenizer
    from mezzotint.denoisers.published.open import open_published
    from mezzotint.models.published import model_of

    settings.limit_threads()
    begun = time.perf_counter()
    how, name = _preset(folder, settings)
    published = open_published(folder)
    # documents stand behind an end token in training, and networks with a shift need a column to look back to
    first = published.stop_ids[:1]
    if published.tokenizer is None or (published.shift and not first):
        raise CheckpointError(f"{folder} has no tokenizer.json, or names no end token: export it again")
    tokenizer = Tokenizer.from_spec(published.tokenizer)
    columns = [*first, *_columns(tokenizer, prompt)]
    holes = columns.count(None)
    plain = Settings()
    asked = None if settings.max_new_tokens == plain.max_new_tokens else settings.max_new_tokens
    new = (0 if holes else TOKENS) if asked is None else asked
    if len(columns) + new > published.context:
        raise ConfigError(
            f"the prompt has {len(columns)} tokens and {new} more are asked for: {published.name} reads at most "
            f"{published.context}"
        )
    model = model_of(published)
    run = _begun(how, model, columns, new, settings.seed)
    loaded = time.perf_counter()

    def show(token: int, undecided: bool) -> str:
        return "░" if undecided else tokenizer.decode([token])

    last(iter(run), show, painted=live and not as_json, start=len(first))
    written = run.result()
    row = written.canvas.tokens[0, : len(columns) + new].tolist()
    ends = [at for at in range(len(columns), len(row)) if row[at] in model.stop and not holes]
    row = row[: ends[0]] if ends else row
    Answer(
        text=tokenizer.decode(row[len(first) :]),
        tokens=max(1, len(row) - len(columns) + holes),
        seconds=time.perf_counter() - loaded,
        forwards=written.passes,
        mode=name,
        model=str(folder),
        finish_reason="stop" if ends else "length",
        load_seconds=loaded - begun,
    ).say(as_json=as_json)


def _columns(tokenizer: "Tokenizer", prompt: str) -> list[int | None]:
    """Ids of a prompt, and None for every token of its holes."""
    columns: list[int | None] = []
    for number, piece in enumerate(HOLE.split(prompt)):
        columns += [None] * len(piece) if number % 2 else tokenizer.encode(piece)
    return columns


def _begun(
    how: "Preset | SelfVerified", model: "MaskedModel", columns: list[int | None], new: int, seed: int
) -> "Running":
    """A generation of the holes among the columns and of `new` tokens behind them."""
    from mezzotint.decode.methods.presets import Preset, decoding
    from mezzotint.decode.run import Run

    holes = columns.count(None)
    if isinstance(how, Preset):
        how = replace(how, ends="never", halt=False) if holes else how
        return Run(model, [columns], new, decoding(how, model, holes + new), [seed])
    if holes:
        raise ConfigError("this model writes from left to right and cannot fill holes (___): end the prompt before one")
    return how.begin(model, [[token for token in columns if token is not None]], new, [seed])


def _preset(folder: Path, settings: Settings) -> tuple["Preset | SelfVerified", str]:
    """How to decode, with the numbers of the command line, and its name."""
    from mezzotint.decode.methods.presets import PRESETS, Preset
    from mezzotint.decode.methods.registry import METHODS, unknown
    from mezzotint.decode.methods.speculative import SelfVerified
    from mezzotint.denoisers.published.families import family_of, usual_method

    if refused := settings.given("mode", "rule", "level", "correct", "accept", "system", "backend", "verifier"):
        raise ConfigError(
            f"--{refused[0]} is for models that chat: this one takes --preset, --steps, --block, --temperature, "
            "--top-p, --max-new-tokens and --seed"
        )
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    block = config.get("block_size")
    name = settings.preset or usual_method(config, family_of(config, str(folder / "config.json")))
    how = METHODS.get(name)
    if not isinstance(how, Preset | SelfVerified):
        raise unknown(name, [*PRESETS, "idlm"])
    given = {key: getattr(settings, key) for key in settings.given("temperature", "top_p", "steps", "block")}
    if isinstance(how, SelfVerified):
        if unread := given.keys() - {"temperature", "top_p"}:
            raise ConfigError(f"--{sorted(unread)[0]} is nothing to the preset {name}: leave it out")
        return replace(how, **given), name
    if block is not None and how.block is not None:
        given = {"block": math.gcd(how.block, block)} | given
    return replace(how, **given), name
