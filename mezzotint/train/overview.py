"""What the runs below a folder are, how far they came and how they differ, read from their records alone."""

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mezzotint.config import load_run
from mezzotint.errors import ConfigError
from mezzotint.train.lock import going
from mezzotint.train.run_files import records

FIGURES = ("bits_per_character", "loss", "cross_entropy")
"""What an evaluation calls its main figure, in order of preference; lower is better."""


@dataclass(frozen=True)
class RunSummary:
    """One run."""

    path: str
    recipe: str
    family: str | None
    state: str
    """finished, exported, interrupted, failed or going."""
    step: int
    steps: int | None
    """Of how many; None where time ends it."""
    minutes: float
    most_minutes: float | None
    figure: str | None
    """What is counted: the main figure of evaluations, else the training loss."""
    best: float | None
    last: float | None
    loss: float | None
    """Of the last logged training step."""
    started: str | None
    bytes: int

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def runs_below(folder: Path) -> list[Path]:
    """The folders of runs in a folder, itself among them, by name.

    Raises:
        ConfigError: there is no such folder.
    """
    if not folder.is_dir():
        raise ConfigError(f"there is no folder {folder}: give the one that holds your runs")
    return sorted(path.parent for path in folder.rglob("run.json"))


def summary(run: Path) -> RunSummary:
    """What a run's records say.

    Raises:
        ConfigError: no run, or a damaged record.
    """
    record, lines = load_run(run / "run.json"), records(run / "metrics.jsonl")
    settings, sessions = record["config"], record.get("sessions") or [{}]
    train = settings.get("train") or {}
    losses = [line for line in lines if line["kind"] == "train" and "loss" in line]
    evaluations = [line for line in lines if line["kind"] == "eval"]
    name = next((name for name in FIGURES if any(name in line for line in evaluations)), None)
    values = [line[name] for line in evaluations if name in line] if name else [line["loss"] for line in losses]
    seconds = max((line["seconds"] for line in lines if "seconds" in line), default=0.0)
    return RunSummary(
        path=str(run),
        recipe=str(record.get("recipe")),
        family=(settings.get("family") or {}).get("kind"),
        state=_state(run, lines),
        step=max((line["step"] for line in lines), default=0),
        steps=train.get("steps"),
        minutes=round(seconds / 60, 2),
        most_minutes=train.get("max_minutes"),
        figure=name or ("loss" if values else None),
        best=min(values, default=None),
        last=values[-1] if values else None,
        loss=losses[-1]["loss"] if losses else None,
        started=sessions[-1].get("started"),
        bytes=sum(os.path.getsize(path) for path in run.rglob("*") if path.is_file()),
    )


def _state(run: Path, lines: Sequence[dict[str, Any]]) -> str:
    if going(run):
        return "going"
    events = [line["event"] for line in lines if line["kind"] == "event" and "event" in line]
    ended = events[-1] if events else ""
    return ended if ended in ("finished", "exported", "failed") else "interrupted"


def differences(runs: Sequence[Path]) -> dict[str, list[Any]]:
    """The settings that are not the same in all runs, by their path: the value of each run, None where it has none.

    Raises:
        ConfigError: no run, or a damaged record.
    """
    flat = []
    for run in runs:
        record = load_run(run / "run.json")
        flat.append({"recipe": record.get("recipe"), **_flat(record["config"], "")})
    names = list(dict.fromkeys(name for values in flat for name in values))
    table = {name: [values.get(name) for values in flat] for name in names}
    return {name: values for name, values in table.items() if any(value != values[0] for value in values)}


def curve(run: Path) -> tuple[str, list[int], list[float]]:
    """What falls while a run trains: its name, and steps and values of the main figure, or of the loss.

    A figure that was evaluated fewer than three times makes no curve: the training loss then does.
    """
    lines = records(run / "metrics.jsonl")
    for kind, names in (("eval", FIGURES), ("train", ("loss",))):
        for name in names:
            found = [(line["step"], line[name]) for line in lines if line["kind"] == kind and name in line]
            if len(found) >= (3 if kind == "eval" else 1):
                return name, [step for step, _ in found], [value for _, value in found]
    return "loss", [], []


def _flat(values: dict[str, Any], above: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, dict):
            found |= _flat(value, f"{above}{name}.")
        else:
            found[f"{above}{name}"] = value
    return found
