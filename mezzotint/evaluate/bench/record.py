"""The record of a benchmark: everything measured, as plain values.

format, complete, date, command, source, versions, machine, settings, missing
engines.NAME.load       library, weights, start_seconds, load_seconds, load_peak_bytes, peak_bytes
engines.NAME.speed      see `speed.summary`
engines.NAME.quality    see `quality`
engines.NAME.answers    one per prompt: tokens, forwards, seconds, text
engines.NAME.replies    one per question: text, right
ratios."A / B"          rounds, median, lowest, highest
fidelity                the fast backend against the reference
"""

import contextlib
import json
import os
import re
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mezzotint import config
from mezzotint.checkpoints import Checkpoint
from mezzotint.data.tokenizer import Tokenizer
from mezzotint.errors import ConfigError, MezzotintError
from mezzotint.evaluate.bench import fidelity
from mezzotint.evaluate.bench.exact_match import right
from mezzotint.evaluate.bench.machine import commit, machine, versions
from mezzotint.evaluate.bench.setup import OURS, Raced
from mezzotint.evaluate.bench.speed import ratio, summary
from mezzotint.evaluate.bench.text_statistics import (
    Logits,
    agreement,
    bootstrap,
    distinct,
    entropy,
    log_likelihoods,
    repetition,
    wilson,
)

FORMAT = 1


def raw(raced: Raced, tokenizer: Tokenizer) -> dict[str, Any]:
    """The record without judgements of quality; "complete" is false until `judged` is added."""
    measured = {name: timings for name, timings in raced.timings.items() if timings}
    return {
        "format": FORMAT,
        "complete": False,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
        "source": commit(),
        "versions": versions(),
        "machine": machine(),
        "settings": config.to_dict(raced.bench),
        "missing": dict(raced.missing),
        "engines": {
            name: {
                "load": raced.loads[name],
                "speed": summary(timings),
                "answers": [_answer(timing, tokenizer) for timing in timings],
                "replies": _replies(raced, name, tokenizer),
            }
            for name, timings in measured.items()
        },
        "ratios": {
            f"{fast} / {slow}": ratio(measured[fast], measured[slow])
            for fast in OURS
            for slow in measured
            if fast in measured and slow != fast
        },
    }


def judged(raced: Raced, record: dict[str, Any], checkpoint: Checkpoint, tell: Callable[[str], None]) -> dict[str, Any]:
    """The parts of the record that need the reference network: quality of every engine, fidelity of the backend."""
    tell("loading the reference")
    reference = fidelity.torch_logits(checkpoint, raced.bench.threads)
    names = list(record["engines"])
    leader = "ar" if "ar" in names else names[0]
    scores = _likelihoods(raced, reference, tell)
    engines = {}
    for name, entry in record["engines"].items():
        engines[name] = {**entry, "quality": quality(raced, name, leader, scores)}
        engines[name]["quality"]["exact_match"] = _exact_match(entry["replies"])
    return {"engines": engines, "fidelity": _fidelity(raced, leader, reference, checkpoint, tell), "complete": True}


def quality(raced: Raced, name: str, leader: str, scores: dict[tuple[str, tuple[int, ...]], float]) -> dict[str, Any]:
    """How well an engine wrote.

    Args:
        raced: the raw results.
        name: the engine.
        leader: the engine whose answers are the reference.
        scores: summed log-likelihood of (prompt, answer) under the fp32 network.
    """
    wanted = {t.prompt: t.written.tokens for t in raced.timings[leader]}
    answers = {t.prompt: t.written.tokens for t in raced.timings[name]}
    agreed = [agreement(wanted[prompt], answers[prompt]) for prompt in answers]
    return {
        "agreement": {
            "reference": leader,
            "identical": wilson(sum(a.identical for a in agreed), len(agreed)).to_dict(),
            "prefix": bootstrap([a.prefix for a in agreed]).to_dict(),
            "positions": bootstrap([a.positions for a in agreed]).to_dict(),
        },
        "log_likelihood": bootstrap(
            [scores[prompt, tuple(tokens)] for prompt, tokens in answers.items()], [len(t) for t in answers.values()]
        ).to_dict(),
        "repetition": {str(n): bootstrap([repetition(t, n) for t in answers.values()]).mean for n in (2, 3, 4)},
        "distinct": {str(n): distinct(list(answers.values()), n) for n in (1, 2)},
        "entropy": bootstrap([entropy(t) for t in answers.values()]).to_dict(),
    }


def write(path: Path, record: dict[str, Any]) -> None:
    """Write a record: indented, but each list of numbers on one line; whole or not at all.

    Raises:
        ConfigError: the place cannot be written.
    """
    text = json.dumps(record, indent=1, ensure_ascii=False)
    # only between line breaks, which strings cannot hold: brackets in an answer's text stay as they are
    text = re.sub(r"\[\n\s*([-\d.e+,\s]+?)\n\s*\]", lambda m: "[" + re.sub(r"\s+", " ", m.group(1)) + "]", text)
    temporary = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(text + "\n", encoding="utf-8")
        temporary.replace(path)
    except OSError as error:
        raise ConfigError(f"cannot write {path} ({error.strerror}): choose another file with --out") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def reserve(path: Path) -> None:
    """Make the folder of a file that is written at the end, so that a place that will not do is found out now.

    Raises:
        ConfigError: the file could not be written there.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir() or not os.access(path.parent, os.W_OK):
            raise PermissionError(13, "not a file that can be written")
    except OSError as error:
        raise ConfigError(f"cannot write {path} ({error.strerror}): choose another file") from error


def read(path: Path) -> dict[str, Any]:
    """A record written by `write`.

    Raises:
        ConfigError: no such file, or another kind of file.
    """
    try:
        record = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot read the benchmark record {path}: {error}") from None
    if not isinstance(record, dict) or record.get("format") != FORMAT:
        raise ConfigError(f"{path} is no benchmark record of format {FORMAT}: make one with `mezzotint bench --out`")
    return record


def _answer(timing: Any, tokenizer: Tokenizer) -> dict[str, Any]:
    written = timing.written
    return {
        "prompt": timing.prompt,
        "round": timing.round,
        "prompt_tokens": timing.prompt_tokens,
        "tokens": len(written.tokens),
        "forwards": written.forwards,
        "seconds": written.seconds,
        "first_token_seconds": written.first_token_seconds,
        "token_ids": written.tokens,
        "text": tokenizer.decode(written.tokens),
    }


def _replies(raced: Raced, name: str, tokenizer: Tokenizer) -> list[dict[str, Any]]:
    given = {question: tokenizer.decode(tokens) for question, tokens in raced.replies[name].items()}
    return [
        {"question": q.id, "kind": q.kind, "text": given[q.id], "right": right(q, given[q.id])}
        for q in raced.questions
        if q.id in given
    ]


def _exact_match(replies: Sequence[dict[str, Any]]) -> dict[str, Any]:
    kinds = dict.fromkeys(reply["kind"] for reply in replies)
    return {
        **wilson(sum(reply["right"] for reply in replies), len(replies)).to_dict(),
        "kinds": {
            kind: [sum(r["right"] for r in replies if r["kind"] == kind), sum(r["kind"] == kind for r in replies)]
            for kind in kinds
        },
    }


def _likelihoods(
    raced: Raced, reference: Logits, tell: Callable[[str], None]
) -> dict[tuple[str, tuple[int, ...]], float]:
    """Each distinct answer judged once: lossless engines write the same ones."""
    every = dict.fromkeys((t.prompt, tuple(t.written.tokens)) for timings in raced.timings.values() for t in timings)
    scores = {}
    for number, (prompt, tokens) in enumerate(every):
        tell(f"likelihood of answers, {number * 10 // len(every) * 10} %")
        scores[prompt, tokens] = float(log_likelihoods(reference, raced.tasks[prompt].ids, tokens).sum())
    return scores


def _fidelity(
    raced: Raced, leader: str, reference: Logits, checkpoint: Checkpoint, tell: Callable[[str], None]
) -> dict[str, Any]:
    """The native backend where it runs, else one sentence."""
    tell("comparing the backend with the reference")
    try:
        backend = fidelity.native_logits(checkpoint, raced.bench.threads)
    except MezzotintError as error:
        return {"missing": str(error)}
    sequences = [(raced.tasks[t.prompt].ids, t.written.tokens) for t in raced.timings[leader]]
    found = fidelity.compare(reference, backend, sequences)
    return {"backend": "native", "reference": "torch float32", "answers_of": leader, **found.to_dict()}
