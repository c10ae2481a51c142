"""What a measurement ran on: processor, memory, versions, commit."""

import os
import platform
import re
import subprocess
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

FLAGS = (
    "avx2",
    "fma",
    "avx512f",
    "avx512_bf16",
    "avx512_vnni",
    "avx_vnni",
    "amx_int8",
    "amx_bf16",
    "asimd",
    "bf16",
    "i8mm",
)
"""Instruction sets that decide how fast a small matrix product is."""

PACKAGES = ("torch", "numpy", "transformers", "llama-cpp-python", "openvino", "tokenizers", "gguf")


def machine() -> dict[str, Any]:
    """Processor, its instruction sets, cores, memory and system."""
    info = _read("/proc/cpuinfo")
    flags = set((_field(info, "flags") or _field(info, "Features") or "").split())
    return {
        "cpu": _field(info, "model name") or platform.processor() or platform.machine(),
        "family_model": [_field(info, "cpu family"), _field(info, "model")],
        "flags": [flag for flag in FLAGS if flag in flags],
        "physical_cores": physical_cores(),
        "logical_cores": len(_allowed()),
        "memory_gb": round(_memory() / 2**30, 1),
        "load_average": round(os.getloadavg()[0], 2),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
    }


def physical_cores() -> int:
    """Cores this process may use, hyper-threads counted once, quotas of the control group respected."""
    allowed = _allowed()
    pairs = {}
    for block in _read("/proc/cpuinfo").split("\n\n"):
        number, core = _field(block, "processor"), _field(block, "core id")
        if number is not None and core is not None and int(number) in allowed:
            pairs[_field(block, "physical id"), core] = True
    cores = len(pairs) or len(allowed)
    quota = _read("/sys/fs/cgroup/cpu.max").split()
    if len(quota) == 2 and quota[0].isdigit():
        cores = min(cores, max(1, int(quota[0]) // int(quota[1])))
    return cores


def versions(packages: Sequence[str] = PACKAGES) -> dict[str, str]:
    """Installed versions; what is not installed is left out."""
    found = {}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def commit() -> dict[str, Any]:
    """The git commit of the source tree and whether it was edited since; nothing outside a checkout."""
    here = Path(__file__).parent
    head = _git(here, "rev-parse", "HEAD")
    changed = _git(here, "status", "--porcelain", "--untracked-files=no")
    return {} if head is None else {"commit": head, "edited": bool(changed)}


def slug(name: str) -> str:
    """A processor's name as part of a file name."""
    kept = re.sub(r"\(.*?\)|\b(cpu|processor|core|with|\d+-core)\b|@.*", " ", name.casefold())
    return "-".join(re.findall(r"[a-z0-9]+", kept)) or "machine"


def peak_memory() -> int:
    """Most memory this process has had resident, bytes, since it began or `forget_peak` was called."""
    line = _field(_read("/proc/self/status"), "VmHWM")
    if line:
        return int(line.split()[0]) * 1024
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def forget_peak() -> bool:
    """Start the peak anew; False where the system does not allow it."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=False, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _allowed() -> set[int]:
    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))


def _memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _read(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""


def _field(text: str, name: str) -> str | None:
    match = re.search(rf"^{re.escape(name)}\s*:\s*(.*)$", text, re.MULTILINE)
    return match.group(1).strip() if match else None
