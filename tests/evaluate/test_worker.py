"""Engines in processes of their own answer, report and fail in sentences."""

import contextlib
import sys
from pathlib import Path

import pytest

from mezzotint.evaluate.bench.engines import BenchStart, BenchTask
from mezzotint.evaluate.bench.worker import EngineFailed, Worker

COMMAND = [sys.executable, str(Path(__file__).with_name("counting_worker.py"))]
START = BenchStart(Path("model.gguf"), "model", 2, (0, 2), 256)


def test_an_engine_answers_through_its_process():
    with contextlib.closing(Worker(COMMAND, "ar", START)) as worker:
        written = worker.write(BenchTask((), [5, 6], 4))
        assert written.tokens == [16, 17, 18, 0]
        assert worker.about == {"library": "counting 1.0, waits as it likes", "weights": "threads 2"}
        assert worker.start_seconds >= worker.load_seconds
        assert min(worker.peak(), worker.load_peak) > 1 << 20


def test_how_threads_wait_in_this_shell_is_not_how_engines_are_measured(monkeypatch):
    monkeypatch.setenv("OMP_WAIT_POLICY", "PASSIVE")
    with contextlib.closing(Worker(COMMAND, "ar", START)) as worker:
        assert worker.about["library"] == "counting 1.0, waits as it likes"


def test_an_engine_that_is_not_installed_says_so():
    with pytest.raises(EngineFailed, match=r"^transformers-bf16 is not installed: pip install it$"):
        Worker(COMMAND, "transformers-bf16", START)


def test_the_last_words_of_a_process_that_dies_are_kept():
    with contextlib.closing(Worker(COMMAND, "llama.cpp", START)) as worker:
        worker.write(BenchTask((), [5], 32))
        with pytest.raises(EngineFailed, match=r"llama.cpp ended with exit code 3: the engine's own complaint"):
            worker.write(BenchTask((), [5], 8))


def test_a_command_that_is_no_engine_fails_with_its_last_words():
    with pytest.raises(EngineFailed, match="ended with exit code 1: no such thing"):
        Worker([sys.executable, "-c", "raise SystemExit('no such thing')"], "ar", START)


def test_closing_twice_is_closing_once():
    worker = Worker(COMMAND, "ar", START)
    worker.close()
    worker.close()
    assert worker._process.returncode is not None
