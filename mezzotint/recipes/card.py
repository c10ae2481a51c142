"""The model card of an exported run: what it is, what it learnt from, how well, and how to open it."""

import json
from pathlib import Path
from typing import Any

from mezzotint._version import VERSION
from mezzotint.config import load_run
from mezzotint.data import corpus
from mezzotint.errors import CheckpointError
from mezzotint.recipes import RECIPES
from mezzotint.train.metrics import clock
from mezzotint.train.run_files import last_records


def write_card(run: Path) -> Path | None:
    """Write README.md beside the exported model of a run; None where the run has exported none.

    Raises:
        CheckpointError: the disk refuses.
    """
    if not (run / "export").is_dir():
        return None
    path = run / "export" / "README.md"
    try:
        path.write_text(card(run), encoding="utf-8")
    except OSError as error:
        raise CheckpointError(f"cannot write {path}: {error}; make room and export the run again") from None
    return path


def card(run: Path) -> str:
    """The card as Markdown, from the records of a run."""
    record, metrics = load_run(run / "run.json"), last_records(run / "metrics.jsonl")
    name, settings = str(record.get("recipe")), record["config"]
    about = RECIPES[name].about if name in RECIPES else "a recipe from outside mezzotint"
    family = settings.get("family") or {}
    trained, ended = metrics.get("train", {}), metrics.get("event", {})
    figures = {k: v for k, v in metrics.get("eval", {}).items() if k not in ("kind", "step")}
    numbers = [f"| {k.replace('_', ' ')} | {v:.4g} |" for k, v in figures.items() if not isinstance(v, str)]
    samples = [v for v in figures.values() if isinstance(v, str)]
    parts = [
        f"---\nlibrary_name: mezzotint\ntags: [{', '.join(filter(None, ['diffusion', family.get('kind')]))}]\n---",
        f"# {run.resolve().name}",
        f"{about[0].upper()}{about[1:]}. Recipe `{name}` of mezzotint {record.get('mezzotint', VERSION)}"
        + (f", family `{family['kind']}`." if "kind" in family else "."),
        "## Training",
        f"{ended.get('step', 0):,} steps, {_tokens(trained, ended):,} tokens, "
        f"{clock(ended.get('seconds', 0.0))} of wall-clock time{_machine(record)}.",
        _data(settings),
        "## Figures",
        "\n".join(["Of the last evaluation, on held-out text:", "", "| figure | value |", "|---|---|", *numbers])
        if numbers
        else "None were taken.",
        *(f"Sample:\n\n```\n{sample}\n```" for sample in samples),
        "## Open it",
        _opening(family),
        "## Licence",
        _licence(settings),
        "## Settings",
        f"```json\n{json.dumps(_readable(settings), indent=2, ensure_ascii=False)}\n```",
    ]
    return "\n\n".join(parts) + "\n"


def _opening(family: dict[str, Any]) -> str:
    """The command that opens the model, and the package of another that it needs."""
    module, named, _ = str(family.get("kind")).partition(":")
    how = f"mezzotint --import {module}" if named else "mezzotint"
    needs = f"Its family is in the package `{family['package']}`.\n\n" if "package" in family else ""
    return f'{needs}```\n{how} generate "..." --model THIS_FOLDER\n```'


def _tokens(trained: dict[str, Any], ended: dict[str, Any]) -> int:
    """Trained on up to the end, whose step may lie behind the last line of metrics."""
    return round(trained.get("tokens", 0) / max(trained.get("step", 1), 1) * ended.get("step", 0))


def _machine(record: dict[str, Any]) -> str:
    sessions = record.get("sessions") or [{}]
    names = {session.get("machine", {}).get("processor") for session in sessions} - {None, ""}
    return f" on {', '.join(sorted(names))}" if names else ""


def _sources(settings: dict[str, Any]) -> list[str]:
    """Where a built corpus came from; nothing for a text file."""
    folder = corpus.where(str(settings.get("data", "")))
    try:
        return list(json.loads((folder / "corpus.json").read_text(encoding="utf-8"))["sources"]) if folder else []
    except (OSError, ValueError, KeyError):
        return []


def _data(settings: dict[str, Any]) -> str:
    began = settings.get("model") or settings.get("base") or settings.get("encoder")
    said = (
        [f"Text: `{settings['data']}`" + "".join(f"; {each}" for each in _sources(settings))]
        if settings.get("data")
        else []
    )
    return "  \n".join([*said, *([f"Started from: `{began}`"] if began else [])]) or "Text: its own answers."


def _licence(settings: dict[str, Any]) -> str:
    sources = _sources(settings)
    of = f" ({'; '.join(sources)})" if sources else ""
    return (
        f"Not stated by the trainer. The text it learnt from{of}, and a model that it started from, keep their own "
        "licences: name them before you share these weights."
    )


def _readable(value: Any) -> Any:
    """The settings without tables of a number per token."""
    if isinstance(value, dict):
        return {key: _readable(item) for key, item in value.items()}
    if isinstance(value, list) and len(value) > 16:
        return f"{len(value)} values"
    return value
