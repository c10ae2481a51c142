"""What a run has left in its folder, read without torch: which checkpoints are whole, and the lines of its metrics."""

import json
from pathlib import Path
from typing import Any


def saved(folder: Path) -> list[Path]:
    """The complete checkpoints in `folder`, oldest first."""
    return sorted(path for path in folder.glob("step-*") if is_whole(path))


def is_whole(path: Path) -> bool:
    """Whether a folder is a complete checkpoint."""
    return path.name.startswith("step-") and (path / "state.json").is_file()


def step_of(path: Path) -> int:
    """The optimiser steps done before a checkpoint was saved."""
    return int(path.name.removeprefix("step-"))


def records(path: Path) -> list[dict[str, Any]]:
    """The lines of a metrics.jsonl that are whole, in order; none where there is no file."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        try:
            record = json.loads(line)
        except ValueError:
            continue  # the half line of a killed run
        if isinstance(record, dict) and "kind" in record and isinstance(record.get("step"), int):
            found.append(record)
    return found


def last_records(path: Path) -> dict[str, dict[str, Any]]:
    """The last line of every kind in a metrics.jsonl."""
    return {record["kind"]: record for record in records(path)}
