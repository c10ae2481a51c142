"""One training in a folder at a time, and a way for others to see whether it is going on."""

import contextlib
import fcntl
from collections.abc import Iterator
from pathlib import Path

from mezzotint.errors import CheckpointError, ConfigError

LOCK = ".training"


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Within the block the folder is ours; the system gives it back when the process ends, however it ends.

    Raises:
        ConfigError: another training is going on in it.
        CheckpointError: the folder cannot be written.
    """
    fresh = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / LOCK).open("w")
    except OSError as error:
        raise CheckpointError(f"cannot write the run folder {folder}: {error}") from None
    try:
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise ConfigError(
                    f"another training is going on in {folder}: wait for its end, stop it with Ctrl-C, or choose "
                    "another folder by --out"
                ) from None
            try:
                yield
            finally:
                (folder / LOCK).unlink(missing_ok=True)
    finally:
        # a run that was refused leaves no trace
        if fresh:
            with contextlib.suppress(OSError):
                folder.rmdir()


def going(folder: Path) -> bool:
    """Whether a training is going on in a folder."""
    try:
        with (folder / LOCK).open() as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return False
