"""Where a run of `mezzotint train` keeps its model: exported at the end, or in the newest checkpoint before that.

RUN/export/                  config.json  model.safetensors
RUN/checkpoints/             config.json  frozen.safetensors: what all checkpoints share
RUN/checkpoints/step-00001200/    weights.safetensors  [average.safetensors]
"""

import json
from pathlib import Path
from typing import Any

from mezzotint.errors import CheckpointError
from mezzotint.train.run_files import is_whole, records, saved, step_of

KIND = "scratch"
"""The `kind` in config.json of a model that was trained from scratch."""


def model_folder(path: Path) -> Path | None:
    """The folder that `TrainedModel.load` takes, for a run, an exported model or a checkpoint; None for anything else.

    A run that was interrupted, or is still going, gives its newest checkpoint; so does one that went on after its
    export.

    Raises:
        CheckpointError: a run that has neither, or whose model is damaged.
    """
    if not (path / "run.json").is_file():
        if is_whole(path):
            return path if _is_ours(path.parent) else None
        return next((folder for folder in (path / "export", path) if _is_ours(folder)), None)
    kept = saved(path / "checkpoints")
    ours = _kind(path / "checkpoints" / "config.json", path) == KIND
    exported = _kind(path / "export" / "config.json", path)
    if exported is not None and exported != KIND:
        return None
    if exported == KIND and not (kept and ours and step_of(kept[-1]) > _exported_step(path)):
        return path / "export"
    if kept and ours:
        return kept[-1]
    if (path / "export").exists() or (path / "config.json").exists():
        return None
    how = f"write it with mezzotint train {path} --export, or " if kept else "it has saved no checkpoint, "
    raise CheckpointError(f"the run {path} has no model yet: {how}finish it with mezzotint train {path} --resume")


def read_record(folder: Path) -> dict[str, Any]:
    """What config.json says of the model in a folder or checkpoint; raises OSError and ValueError as reading does."""
    place = folder.parent if is_whole(folder) else folder
    return json.loads((place / "config.json").read_text(encoding="utf-8"))


def exported(run: Path) -> Path:
    """Where the model of a finished run lies; the folder itself where it is no run."""
    return run / "export" if (run / "export" / "config.json").is_file() else run


def _is_ours(folder: Path) -> bool:
    return _kind(folder / "config.json", None) == KIND


def _kind(path: Path, run: Path | None) -> str | None:
    """The kind that a config.json names; None where there is none, or where it is damaged and belongs to no run."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        if run is None:
            return None
        raise CheckpointError(f"cannot read the model of the run {run}: {path} is damaged ({error})") from None
    return str(found.get("kind")) if isinstance(found, dict) else None


def _exported_step(run: Path) -> int:
    """The step that the newest export of a run is of; larger than any where the run does not say."""
    events = [found for found in records(run / "metrics.jsonl") if found["kind"] == "event"]
    steps = [found["step"] for found in events if found.get("event") in ("finished", "exported")]
    return steps[-1] if steps else 1 << 62
