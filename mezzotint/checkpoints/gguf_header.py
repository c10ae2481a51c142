"""The header of a GGUF file: key-value metadata and the table of tensors (GGUF specification, versions 2 and 3).

The `gguf` package's own reader makes several NumPy objects per string, seconds for a vocabulary of 50 000; this one
reads the same header in a tenth of a second and checks that every tensor lies within the file.  Sizes of quantised
types and their dequantisation stay with the package.
"""

import mmap
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mezzotint.errors import CheckpointError

MAGIC = b"GGUF"
VERSIONS = (2, 3)
ALIGNMENT_KEY, ALIGNMENT = "general.alignment", 32
SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
STRING, ARRAY = 8, 9


@dataclass(frozen=True, slots=True)
class TensorEntry:
    """One row of the tensor table; `shape` has the outermost dimension first, `start` is a byte of the file."""

    shape: tuple[int, ...]
    kind: int
    start: int
    size: int


@dataclass(frozen=True, slots=True)
class Header:
    """Metadata and tensor table of a GGUF file, and the mapped file itself."""

    metadata: dict[str, Any]
    tensors: dict[str, TensorEntry]
    data: mmap.mmap


def read_header(path: Path) -> Header:
    """Map a GGUF file and read its header.

    Raises:
        CheckpointError: the file cannot be read, is no GGUF file, has a damaged header, or ends before its last tensor.
    """
    try:
        with path.open("rb") as file:
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except (OSError, ValueError) as error:
        raise CheckpointError(f"cannot read {path}: {error}") from error
    if data[:4] != MAGIC:
        raise CheckpointError(f"{path} is not a GGUF file: it starts with {data[:4]!r} instead of {MAGIC!r}")
    try:
        metadata, tensors = _Cursor(data).header()
    except (struct.error, UnicodeDecodeError, KeyError, OverflowError, MemoryError, _Damaged) as error:
        raise CheckpointError(
            f"{path} has a damaged or truncated header ({error or type(error).__name__}): fetch the file again"
        ) from error
    end = max((entry.start + entry.size for entry in tensors.values()), default=0)
    if end > len(data):
        raise CheckpointError(
            f"{path} is truncated: its tensors need {end} bytes and the file has {len(data)}: fetch the file again"
        )
    return Header(metadata, tensors, data)


class _Damaged(Exception):
    """A header that contradicts itself."""


class _Cursor:
    """Reads little-endian values one after another."""

    def __init__(self, data: mmap.mmap) -> None:
        self.data = data
        self.at = 4

    def header(self) -> tuple[dict[str, Any], dict[str, TensorEntry]]:
        version = self.scalar("I")
        if version not in VERSIONS:
            raise _Damaged(f"version {version} is not one of {VERSIONS}")
        count, pairs = self.scalar("Q"), self.scalar("Q")
        metadata = {}
        for _ in range(pairs):
            key = self.string()
            metadata[key] = self.value(self.scalar("I"))
        rows = [self.row() for _ in range(count)]
        alignment = metadata.get(ALIGNMENT_KEY, ALIGNMENT)
        base = -(-self.at // alignment) * alignment
        return metadata, {
            name: TensorEntry(shape, kind, base + start, _size(shape, kind)) for name, shape, kind, start in rows
        }

    def scalar(self, code: str) -> Any:
        (value,) = struct.unpack_from("<" + code, self.data, self.at)
        self.at += struct.calcsize("<" + code)
        return value

    def string(self) -> str:
        (length,) = struct.unpack_from("<Q", self.data, self.at)
        start = self.at + 8
        self.at = start + length
        if self.at > len(self.data):
            raise _Damaged("a string runs past the end of the file")
        return self.data[start : self.at].decode()

    def value(self, kind: int) -> Any:
        if kind == STRING:
            return self.string()
        if kind != ARRAY:
            return self.scalar(SCALARS[kind])
        of, count = self.scalar("I"), self.scalar("Q")
        if count > len(self.data):
            raise _Damaged("an array is longer than the file")
        if of in SCALARS:
            code = f"<{count}{SCALARS[of]}"
            values = list(struct.unpack_from(code, self.data, self.at))
            self.at += struct.calcsize(code)
            return values
        return [self.value(of) for _ in range(count)]

    def row(self) -> tuple[str, tuple[int, ...], int, int]:
        name = self.string()
        dimensions = self.scalar("I")
        if dimensions > 8:
            raise _Damaged(f"tensor {name} has {dimensions} dimensions")
        shape = tuple(self.scalar("Q") for _ in range(dimensions))[::-1]
        return name, shape, self.scalar("I"), self.scalar("Q")


def _size(shape: tuple[int, ...], kind: int) -> int:
    """Bytes of a tensor of GGML type number `kind`."""
    from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType

    try:
        block, size = GGML_QUANT_SIZES[GGMLQuantizationType(kind)]
    except ValueError as error:
        raise _Damaged(f"tensor type {kind} is unknown") from error
    count = 1
    for extent in shape:
        count *= extent
    if count % block:
        raise _Damaged(f"a tensor of {count} weights does not fit blocks of {block}")
    return count // block * size
