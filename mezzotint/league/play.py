"""The league: every family on the same text with the same trunk, tokens and optimiser, asked the same questions.

Each model is a piece of its own with its result beside it, so a league that stops goes on where it was, and pieces may
be run apart.  A piece whose settings changed is made again.
"""

import contextlib
import fcntl
import hashlib
import json
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from pydantic import Field

from mezzotint.batch import Batch
from mezzotint.config import config, to_dict, write_json
from mezzotint.data.characters import Pages
from mezzotint.data.corpus import Corpus
from mezzotint.errors import ConfigError
from mezzotint.evaluate.bench.machine import commit, forget_peak, machine, peak_memory, versions
from mezzotint.evaluate.generative import counted, quality
from mezzotint.evaluate.infilling import rewritten
from mezzotint.families.base import objective_of
from mezzotint.models.trained import TrainedModel
from mezzotint.objectives.bits import measure
from mezzotint.plugins import kind_of
from mezzotint.recipes import compared, load
from mezzotint.recipes.from_scratch import Small
from mezzotint.train.loop import run
from mezzotint.train.run_files import saved, step_of

FAMILIES = compared()
"""Every family that is trained from scratch, and its recipe."""
HALVED = {"duo": "family.curriculum"}
"""Settings that count half of a family's optimiser steps."""
JUDGE = "judge"
"""The autoregressive model that scores samples: of another seed than any that takes part, trained twice as long."""
_JUDGES_SEED = 1_000_003


@config
class League:
    """What is compared, and for how long."""

    corpus: str = "letters"
    """A corpus of `mezzotint data build`, or a text file."""
    families: tuple[str, ...] = tuple(FAMILIES)
    seeds: tuple[int, ...] = (0,)
    steps: int = Field(default=2000, gt=0)
    """Optimiser steps of every model."""
    edits: tuple[str, ...] = ()
    """Changes to every model's recipe, such as network.width=256."""
    texts: int = Field(default=64, gt=1)
    """Texts written per model and number of steps."""
    sample_steps: tuple[int, ...] = (4, 16, 64)
    windows: int = Field(default=512, gt=15)
    """Held-out windows of the bound."""
    hole: int = Field(default=8, gt=0)
    """Tokens left out of a window for infilling."""

    def check(self) -> None:
        """Refuse settings that contradict each other.

        Raises:
            ConfigError: families that do not exist, seeds that cannot be, or one of either given twice.
        """
        unknown = [name for name in self.families if name not in FAMILIES]
        if unknown or not self.families:
            raise ConfigError(f"there is no family {', '.join(unknown) or 'given'}: use {', '.join(FAMILIES)}")
        if not self.seeds or min(self.seeds) < 0:
            raise ConfigError("a league needs seeds from 0 up, such as 0,1,2")
        for what, given in (("family", self.families), ("seed", self.seeds)):
            # a model that counts twice would make errors look smaller than they are
            if len(set(given)) < len(given):
                raise ConfigError(f"a {what} is given twice in {','.join(map(str, given))}: give each once")


def play(league: League, folder: Path, tell: Callable[[str], None]) -> dict[str, Any]:
    """Train and measure what is missing in `folder`; the whole record.

    Raises:
        ConfigError: a league that cannot be, a text too short for it, or a folder where another one is at work.
    """
    league.check()
    pieces = [(JUDGE, _JUDGES_SEED)] + [(name, seed) for name in league.families for seed in league.seeds]
    first = _recipe(league, "ar", 0)
    for name in league.families:
        _recipe(league, name, 0).check()
    corpus = first.corpus()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"cannot write {folder} ({error.strerror}): choose another folder by --out") from None
    if (held := len(corpus.test.ids)) < (least := 16 * first.length):
        raise ConfigError(
            f"{league.corpus} holds out {held} tokens, and a league measures {least} or more: give more text"
        )
    with _alone(folder):
        results = _played(league, folder, pieces, corpus, tell)
    ratio = corpus.test.ratio
    base = {k: v * ratio for k, v in counted(corpus.train.ids, corpus.test.ids, corpus.vocabulary.vocab).items()}
    return {"league": to_dict(league), "corpus": corpus.facts, "counted_bits_per_character": base, "models": results}


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Raises ConfigError where another league is at work in the folder: each would undo what the other trains."""
    with (folder / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise ConfigError(
                f"another league is at work in {folder}: wait for its end, or choose another folder by --out"
            ) from None
        yield


def _played(
    league: League, folder: Path, pieces: list[tuple[str, int]], corpus: Corpus, tell: Callable[[str], None]
) -> list[dict[str, Any]]:
    """Every piece's record, trained and measured where it is missing."""
    results: list[dict[str, Any]] = []
    judge: TrainedModel | None = None
    begun, made = time.perf_counter(), 0
    for number, (name, seed) in enumerate(pieces):
        at = folder / f"{name}-{seed}"
        recipe = _recipe(league, "ar" if name == JUDGE else name, seed, 2 if name == JUDGE else 1)
        digest = _digest(league, recipe, corpus)
        found = _done(at, digest)
        if found is None:
            tell(f"{number + 1} of {len(pieces)}: {name}, seed {seed}")
            found = _piece(league, recipe, at, digest, corpus, judge)
            made += 1
            left = (time.perf_counter() - begun) / made * (len(pieces) - number - 1)
            result = f"{found['bits_per_character']:.3f} +- {found['standard_error']:.3f} bits per character"
            tell(f"{name}: {result}; about {left / 60:.0f} minutes left")
        if name == JUDGE:
            judge = TrainedModel.load(at / "run" / "export")
        results.append({"name": name, "seed": seed, **found})
    return results


def _recipe(league: League, name: str, seed: int, times: int = 1) -> Small:
    steps = league.steps * times
    # counting tokens and pairs, which the table begins with, is of symbols that everybody knows
    edits = [
        "tokens=characters",
        "train.max_minutes=null",
        f"train.steps={steps}",
        f"train.eval_every={max(1, steps // 4)}",
    ]
    if name in HALVED:
        edits.append(f"{HALVED[name]}={steps // 2}")
    edits += [f"data={league.corpus}", f"train.seed={seed}", "samples=1"]
    recipe, _ = load(FAMILIES[name], [*edits, *league.edits])
    assert isinstance(recipe, Small)
    return recipe


def _piece(
    league: League, recipe: Small, at: Path, digest: str, corpus: Corpus, judge: TrainedModel | None
) -> dict[str, Any]:
    """Train one model and measure it."""
    forget_peak()
    task = recipe.build()
    _clear(at, recipe, corpus)
    kept = saved(at / "run" / "checkpoints")
    before, begun = step_of(kept[-1]) if kept else 0, time.process_time()
    outcome = run(task, recipe.train, at / "run", title=at.name, resume=bool(kept))
    seconds = time.process_time() - begun
    if outcome.signal:
        raise KeyboardInterrupt
    model = TrainedModel.load(at / "run" / "export")
    batches = held_windows(corpus, recipe.length, league.windows)
    bits, error = measure(model.network, objective_of(model.family), batches, draws=4).bits(corpus.test.ratio)
    a_step = recipe.rows * recipe.length * recipe.train.accumulate
    rate = (outcome.step - before) * a_step / seconds
    record: dict[str, Any] = {
        "digest": digest,
        "recipe": to_dict(recipe),
        "exact": kind_of(recipe.family) == "ar",
        "bits_per_character": bits,
        "standard_error": error,
        "parameters": sum(p.numel() for p in model.network.parameters()),
        "tokens": outcome.step * a_step,
        # of the steps that were trained in this session; none are left where only the measuring was interrupted
        "cpu_seconds": round(seconds, 1),
        "tokens_per_cpu_second": round(rate, 1) if outcome.step > before else None,
        "threads": torch.get_num_threads(),
        # a league that went on may be of several machines and commits
        "machine": machine()["cpu"],
        "source": commit() | versions(("torch",)),
    }
    if judge is not None:
        record["quality"] = [asdict(quality(model, judge, league.texts, steps)) for steps in _budgets(league, model)]
        found = rewritten(model, batches[:8], league.hole, league.hole)
        record["infilling"], record["infilling_error"] = found.share, found.error
        *_, canvas = model.decode(model.blank(2, seed=7), recipe.sample_steps)
        record["samples"] = model.texts(canvas)
    record["peak_bytes"] = peak_memory()
    write_json(at / "result.json", record)
    return record


def held_windows(corpus: Corpus, length: int, windows: int) -> list[Batch]:
    """Windows, sixteen to a batch, from all over the held-out text: its documents lie in the order of their sources."""
    pages = Pages(corpus.test.ids, length, 16)
    count = max(1, min(len(pages), windows // 16))
    return [pages.batch(number * len(pages) // count) for number in range(count)]


def _budgets(league: League, model: TrainedModel) -> Iterator[int]:
    """Numbers of steps that mean something for a family: one column a time needs as many as there are columns."""
    blocks = model.shape.length // (model.family.block or model.shape.length)
    seen: set[int] = set()
    for steps in league.sample_steps:
        used = blocks * max(1, round(steps / blocks)) if model.family.block != 1 else blocks
        if used not in seen:
            seen.add(used)
            yield used


def _done(at: Path, digest: str, file: str = "result.json") -> dict[str, Any] | None:
    try:
        found = json.loads((at / file).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) and found.get("digest") == digest else None


def _clear(at: Path, recipe: Small, corpus: Corpus) -> None:
    """Remove what was trained with other settings or on other text: to go on from it would mix the two."""
    asked = {"recipe": to_dict(recipe), "corpus": corpus.facts}
    settings = {"digest": hashlib.sha256(json.dumps(asked, sort_keys=True, default=str).encode()).hexdigest()[:16]}
    if _done(at, settings["digest"], "training.json") is not None:
        return
    if (at / "run").exists():
        shutil.rmtree(at / "run")
    at.mkdir(parents=True, exist_ok=True)
    write_json(at / "training.json", settings)


def _digest(league: League, recipe: Small, corpus: Corpus) -> str:
    """Everything that a piece's figures depend on."""
    asked = {k: v for k, v in to_dict(league).items() if k not in ("families", "seeds")}
    whole = {"recipe": to_dict(recipe), "asked": asked, "corpus": corpus.facts}
    return hashlib.sha256(json.dumps(whole, sort_keys=True, default=str).encode()).hexdigest()[:16]
