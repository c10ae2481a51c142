"""An engine in a process of its own, so that its memory, threads and load time are its own.

The parent writes one JSON line per command to the child's standard input and reads one per answer; whatever libraries
print goes to the child's standard error, which is kept for the message when it fails.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mezzotint.errors import MezzotintError
from mezzotint.evaluate.bench.engines import BenchAnswer, BenchEngine, BenchStart, BenchTask
from mezzotint.evaluate.bench.machine import forget_peak, peak_memory

Build = Callable[[str, BenchStart], BenchEngine]
"""(name, what it is built from) -> a loaded engine."""


PLACED = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "OMP_PROC_BIND", "OMP_PLACES", "GOMP_CPU_AFFINITY", "KMP_BLOCKTIME")
"""How OpenMP's threads wait and where they run, which a shell may have set for other work: `OMP_WAIT_POLICY=PASSIVE`
alone makes llama.cpp on two threads several times slower.  Engines are measured by what their libraries choose."""


class EngineFailed(Exception):
    """An engine could not be loaded, or died; the message is one sentence for the report."""


class Worker:
    """The parent's end of an engine's process."""

    def __init__(self, command: Sequence[str], name: str, start: BenchStart) -> None:
        """Starts the process and waits until the model is loaded.

        Args:
            command: what runs `serve` in a new process.
            name: the engine.
            start: what it is built from.

        Raises:
            EngineFailed: it did not come up.
        """
        self.name = name
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 - lives as long as the process
        environment = {name: value for name, value in os.environ.items() if name not in PLACED}
        environment["OMP_NUM_THREADS"] = str(start.threads)
        began = time.perf_counter()
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, text=True, env=environment
        )
        try:
            ready = self._ask({"do": "load", "engine": name, "start": {**asdict(start), "model": str(start.model)}})
        except BaseException:
            self.close()
            raise
        self.about: dict[str, Any] = ready["about"]
        self.load_seconds: float = ready["seconds"]
        """Importing its libraries and loading the weights."""
        self.start_seconds = time.perf_counter() - began
        """The same with starting Python."""
        self.load_peak: int = ready["peak"]
        """Most memory while loading, bytes."""

    def write(self, task: BenchTask) -> BenchAnswer:
        """One answer; raises EngineFailed if the engine cannot give it."""
        return BenchAnswer(**self._ask({"do": "write", "task": asdict(task)})["written"])

    def peak(self) -> int:
        """Most memory since it was loaded, bytes."""
        return self._ask({"do": "peak"})["peak"]

    def close(self) -> None:
        """End the process, however it is doing; once more does nothing."""
        if self._errors.closed:
            return
        if self._process.poll() is None:
            self._process.kill()
        self._process.communicate()
        self._errors.close()

    def _ask(self, command: dict[str, Any]) -> dict[str, Any]:
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None, "it is a pipe"
        assert stdout is not None, "it is a pipe"
        try:
            stdin.write(json.dumps(command) + "\n")
            stdin.flush()
            line = stdout.readline()
        except BrokenPipeError:
            line = ""
        answer = json.loads(line) if line else {"error": self._last_words()}
        if "error" in answer:
            raise EngineFailed(answer["error"])
        return answer

    def _last_words(self) -> str:
        code = self._process.wait()
        self._errors.seek(0)
        lines = [line.strip() for line in self._errors.read().splitlines() if line.strip()]
        return f"{self.name} ended with exit code {code}" + (f": {lines[-1]}" if lines else "")


def serve(build: Build) -> None:
    """The child's end: load on request, answer until standard input closes."""
    # libraries print to standard output as they like; only this file object still reaches the parent
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    engine: BenchEngine | None = None
    for line in sys.stdin:
        command = json.loads(line)
        try:
            if command["do"] == "load":
                began = time.perf_counter()
                settings = {**command["start"], "model": Path(command["start"]["model"])}
                engine = build(command["engine"], BenchStart(**{**settings, "eos": tuple(settings["eos"])}))
                reply = {"about": engine.about, "seconds": time.perf_counter() - began, "peak": peak_memory()}
                forget_peak()
            elif command["do"] == "write":
                assert engine is not None, "loaded before it is asked"
                reply = {"written": asdict(engine.write(BenchTask(**command["task"])))}
            else:
                reply = {"peak": peak_memory()}
        except MezzotintError as error:
            reply = {"error": str(error)}
        except Exception as error:  # an engine of others may raise anything; the bench goes on without it
            reply = {"error": f"{type(error).__name__}: {error}".splitlines()[0]}
        replies.write(json.dumps(reply) + "\n")
        replies.flush()
