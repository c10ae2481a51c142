"""The model cache: where it is, and how a file gets into it whole or not at all.

A file is written into a staging folder inside the cache (same disk), checked, and renamed into place.  The staging
folder is removed however the work ends; those of killed processes are swept on the next use, told apart by a lock.
"""

import contextlib
import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from mezzotint.errors import CapacityError, CheckpointError

HOME_VARIABLE = "MEZZOTINT_HOME"
STAGING = ".staging-"
CHUNK = 1 << 20
SPARE = 16 << 20
"""Bytes left free on the disk beyond what is written."""

Progress = Callable[[str, int, int], None]
"""Called as (what is being done, bytes done, bytes in all)."""


def home() -> Path:
    """The cache folder: $MEZZOTINT_HOME, else ~/.cache/mezzotint (under $XDG_CACHE_HOME where that is set)."""
    if os.environ.get(HOME_VARIABLE):
        return Path(os.environ[HOME_VARIABLE]).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "mezzotint"


@contextlib.contextmanager
def staging(root: Path, need: int) -> Iterator[Path]:
    """A temporary folder inside `root`, gone when the block ends, also by an exception or Ctrl-C.

    Args:
        root: the cache folder, created if missing.
        need: bytes that are going to be written.

    Raises:
        CheckpointError: the folder cannot be created or written.
        CapacityError: the disk has less than `need` free, or fills up while the block writes.
    """
    with writing(root):
        root.mkdir(parents=True, exist_ok=True)
        _sweep(root)
        free = shutil.disk_usage(root).free
        if free < need + SPARE:
            raise CapacityError(
                f"not enough disk space in {root}: {(need + SPARE) >> 20} MiB needed, {free >> 20} MiB free: "
                f"free some, or set {HOME_VARIABLE} to a folder on another disk"
            )
        folder = Path(tempfile.mkdtemp(prefix=STAGING, dir=root))
    try:
        with writing(root), _locked(folder):
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def writing(root: Path) -> Iterator[None]:
    """Turn the operating system's refusals to write into sentences that name the cache folder.

    Raises:
        CapacityError: the disk is full.
        CheckpointError: the folder cannot be written.
    """
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        if error.errno in (28, 122):  # no space left on device, disk quota exceeded
            raise CapacityError(f"the disk of {root} is full: free some space, or set {HOME_VARIABLE}") from error
        raise CheckpointError(
            f"cannot write to the cache folder {root} ({reason}): set {HOME_VARIABLE} to a folder you can write to"
        ) from error


def publish(staged: Path, target: Path) -> None:
    """Move a finished file into place; readers see the old file or the new one, never a part."""
    with staged.open("rb") as file:
        os.fsync(file.fileno())
    target.parent.mkdir(parents=True, exist_ok=True)
    os.replace(staged, target)


def sha256(path: Path, progress: Progress | None = None) -> str:
    """Hex digest of a file."""
    digest, done, total = hashlib.sha256(), 0, path.stat().st_size
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
            done += len(chunk)
            if progress is not None:
                progress("checking", done, total)
    return digest.hexdigest()


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _sweep(root: Path) -> None:
    """Remove staging folders whose process no longer holds their lock."""
    for folder in root.glob(STAGING + "*"):
        with contextlib.suppress(OSError), (folder / "lock").open("r+") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
