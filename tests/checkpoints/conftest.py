"""Tiny model files and an empty cache for the tests beside it."""

import sys
from pathlib import Path

import gguf
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from tiny_files import write_folder, write_gguf


@pytest.fixture
def q4(tmp_path: Path) -> Path:
    write_gguf(tmp_path / "tiny.gguf", gguf.GGMLQuantizationType.Q4_1)
    return tmp_path / "tiny.gguf"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "tiny")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the test's own."""
    monkeypatch.setenv("MEZZOTINT_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"
