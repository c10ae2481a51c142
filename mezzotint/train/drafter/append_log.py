"""A file of JSON lines that only grows, and survives being killed."""

import json
from pathlib import Path
from typing import Any


class AppendLog:
    """The whole lines of a file; one that a kill tore is written over by the next."""

    def __init__(self, path: Path) -> None:
        self.path = path
        lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
        whole = [line for line in lines if line.endswith(b"\n")]
        self.entries: list[Any] = [json.loads(line) for line in whole]
        """What was found; what is appended is not added."""
        self._end = sum(map(len, whole))

    def append(self, entry: Any) -> None:
        """Write one line more."""
        line = json.dumps(entry).encode() + b"\n"
        with open(self.path, "r+b" if self.path.exists() else "w+b") as file:
            file.truncate(self._end)
            file.seek(self._end)
            file.write(line)
        self._end += len(line)
