"""The facts of a run that run.json keeps beside the configuration."""

import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from mezzotint._version import VERSION
from mezzotint.config import load_run, save_run
from mezzotint.errors import CheckpointError, ConfigError


def open_run(folder: Path, cfg: Any, recipe: str, *, resume: bool) -> None:
    """Make `folder` the home of a run and write its run.json; a resumed run adds a session to its list.

    Raises:
        ConfigError: the folder already holds a run and `resume` is not set.
        CheckpointError: the folder cannot be written.
    """
    path = folder / "run.json"
    refuse_another(folder, resume=resume)
    sessions = load_run(path).get("sessions", []) if path.exists() else []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        save_run(path, cfg, recipe=recipe, mezzotint=VERSION, sessions=[*sessions, facts()])
    except OSError as error:
        raise CheckpointError(f"cannot write the run folder {folder}: {error}") from None


def refuse_another(folder: Path, *, resume: bool) -> None:
    """Refuse a folder that holds a run, unless it is to be resumed; writes nothing.

    Raises:
        ConfigError: `open_run` would refuse it for a run that is there.
    """
    if not resume and (folder / "run.json").exists():
        raise ConfigError(f"{folder} already holds a run: go on with it by --resume, or choose another folder by --out")


def facts() -> dict[str, Any]:
    """When, by which command, from which code and on which machine."""
    return {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": sys.argv,
        "version": VERSION,
        "git": _git(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "machine": {
            "system": platform.platform(),
            "processor": _processor(),
            "cpus": os.cpu_count(),
            "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
        },
    }


def _git() -> dict[str, Any] | None:
    """The commit of the source tree and whether it was changed; None outside a repository."""
    here = Path(__file__).parent

    def ask(*words: str) -> str:
        return subprocess.run(
            ["git", "-C", str(here), *words], capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        return {
            "commit": ask("rev-parse", "HEAD"),
            "changed": bool(ask("status", "--porcelain", "--untracked-files=no")),
        }
    except (OSError, subprocess.CalledProcessError):
        return None


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()
