"""Compiles the CPU kernels with the C++ compiler at hand, once per machine and source, into the cache folder.

The result is named by a hash of sources, compiler and flags, written to a temporary name and renamed, so that two
processes may build at once and a broken build is never found.  Where no compiler is found or the processor lacks AVX2,
`library()` says so in a CheckpointError-free way (`NativeUnavailable`), and the torch path is used instead.
"""

import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

from mezzotint.errors import CapacityError

_SHARED = ("kernels.hpp", "vectors.hpp", "pool.hpp")
SOURCES = ("native.cpp", "drafter.hpp", "products.hpp", "stack.hpp", "attention.hpp", "groups.hpp", *_SHARED)
DENSE = ("dense.cpp", "dense.hpp", *_SHARED)
"""What the float32 kernels are made of; the first file includes the others."""
FLAGS = ("-O3", "-march=native", "-ffp-contract=off", "-std=c++20", "-shared", "-fPIC", "-pthread")


class NativeUnavailable(CapacityError):
    """The native kernels cannot be built or run here; the message says why."""


def library(sources: tuple[str, ...] = SOURCES) -> Path:
    """Path of the compiled kernels, building them if need be.

    Raises:
        NativeUnavailable: no AVX2, no compiler, or a compiler error (its first line is in the message).
    """
    _check_processor()
    compiler = _compiler()
    target = _folder() / f"kernels-{_fingerprint(compiler, sources)}.so"
    if not target.exists():
        try:
            _compile(compiler, sources[0], target)
        except OSError as error:
            raise NativeUnavailable(f"the native kernels cannot be built in {target.parent}: {error}") from error
    return target


def _check_processor() -> None:
    if platform.machine() not in ("x86_64", "AMD64"):
        raise NativeUnavailable(f"the native kernels need an x86-64 processor, this is {platform.machine()}")
    try:
        flags = set(_processor_flags().split())
    except OSError:
        return  # not Linux: the compiler's -march=native decides
    missing = {"avx2", "fma", "f16c"} - flags
    if missing:
        raise NativeUnavailable(f"the native kernels need a processor with {', '.join(sorted(missing))}")


def _processor_flags() -> str:
    with open("/proc/cpuinfo", encoding="utf-8") as info:
        return next((line.partition(":")[2] for line in info if line.startswith("flags")), "")


def _compiler() -> str:
    for name in (os.environ.get("CXX"), "g++", "c++", "clang++"):
        if name and (path := shutil.which(name)):
            return path
    raise NativeUnavailable("the native kernels need a C++ compiler: install g++ or clang++, or set CXX")


def _folder() -> Path:
    from mezzotint.checkpoints.cache import home

    return home() / "native"


@cache
def _fingerprint(compiler: str, sources: tuple[str, ...]) -> str:
    digest = hashlib.sha256(" ".join(FLAGS).encode())
    for name in sources:
        digest.update(Path(__file__).with_name(name).read_bytes())
    digest.update(subprocess.run([compiler, "--version"], capture_output=True, check=False).stdout)
    try:
        digest.update(_processor_flags().encode())  # a cache folder may be shared by machines of several kinds
    except OSError:
        digest.update(platform.processor().encode())
    return digest.hexdigest()[:16]


def _compile(compiler: str, main: str, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    source = Path(__file__).with_name(main)
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        made = Path(folder) / target.name
        command = [compiler, *FLAGS, "-o", str(made), str(source)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            first = next((line for line in done.stderr.splitlines() if "error" in line), done.stderr[:200])
            raise NativeUnavailable(f"{compiler} could not compile the native kernels: {first.strip()}")
        os.replace(made, target)


if __name__ == "__main__":
    try:
        for wanted in sys.argv[1:] or ("default-model", "float32"):
            print(library({"default-model": SOURCES, "float32": DENSE}[wanted]))  # noqa: T201 - the output of this script
    except NativeUnavailable as problem:
        print(f"{problem}; the slower torch path will be used, if torch is there", file=sys.stderr)  # noqa: T201 - likewise
