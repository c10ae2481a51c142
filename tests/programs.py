"""Programs that tests start: none outlives its test, and none is waited for without end."""

import os
import select
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def started(command: list[Any], **options: Any) -> Iterator[subprocess.Popen[Any]]:
    """A program that is killed when the block is left, whatever became of it."""
    with subprocess.Popen(command, **options) as process:
        try:
            yield process
        finally:
            process.kill()


def arriving(file: int, seconds: float = 60) -> bytes:
    """What comes next from a file descriptor within that time; b"" at its end."""
    assert select.select([file], [], [], max(seconds, 0))[0], f"nothing was written for {seconds:.0f} s"
    return os.read(file, 65536)
