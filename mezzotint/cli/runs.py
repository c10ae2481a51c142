"""Where `mezzotint train` left a model."""

import json
from pathlib import Path


def folder_of(model: str) -> Path | None:
    """Where the model of a run, or an exported model, lies; None if `model` names something else."""
    for folder in (Path(model) / "export", Path(model)):
        record = folder / "config.json"
        try:
            if record.is_file() and json.loads(record.read_text(encoding="utf-8")).get("kind") == "scratch":
                return folder
        except (OSError, ValueError):
            continue
    return None
