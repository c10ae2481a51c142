"""Gives a test the recorded folder that its marker names; see recorded.py."""

import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "checkpoints")]  # helpers beside these tests are imported by name

from recorded import ROOT, Golden  # noqa: E402 - found by the line above


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """`golden` runs over the folders of its marker that are there; another root may hold only some."""
    if "golden" in metafunc.fixturenames:
        names = [name for marker in metafunc.definition.iter_markers("golden") for name in marker.args]
        found = [name for name in dict.fromkeys(names) if (ROOT / name).is_dir()]
        metafunc.parametrize("golden", found, indirect=True, scope="module")


@pytest.fixture(scope="module")
def golden(request: pytest.FixtureRequest) -> Golden:
    """The folder that the test's marker names."""
    return Golden(ROOT / request.param)
