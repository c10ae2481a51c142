"""Where `mezzotint train` left a model."""

import json
from pathlib import Path

from mezzotint.errors import CheckpointError


def folder_of(model: str) -> Path | None:
    """Where the model of a run, or an exported model, lies; None if `model` names something else.

    Raises:
        CheckpointError: a run that has not come to its end, or whose model is damaged.
    """
    if not model:
        return None
    is_run = (Path(model) / "run.json").is_file()
    for folder in (Path(model) / "export", Path(model)):
        record = folder / "config.json"
        try:
            found = json.loads(record.read_text(encoding="utf-8")) if record.is_file() else None
        except (OSError, ValueError, RecursionError) as error:
            if is_run:
                raise CheckpointError(
                    f"cannot read the model of the run {model}: {record} is damaged ({error})"
                ) from None
            continue
        if isinstance(found, dict) and found.get("kind") == "scratch":
            return folder
    if is_run and not any((Path(model) / name).exists() for name in ("export", "config.json")):
        raise CheckpointError(f"the run {model} has no model yet: finish it with mezzotint train {model} --resume")
    return None
