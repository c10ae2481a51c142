"""Recorded vectors of published implementations, found by folder name.

`$MEZZOTINT_GOLDEN`, or tests/golden/, holds one folder per set: `meta.json` with the configuration, the tensors' roles
and tolerances, `vectors.safetensors`, and a network's `config.json` and `model.safetensors` where there is one.  A test
that carries `@pytest.mark.golden("name")` and takes the fixture `golden` runs on the folder of that name.  Sizes, ids
and cases come from the folder, so that another recording under the same name needs no code.
"""

import json
import os
import re
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

HERE = Path(__file__).parent
ROOT = Path(os.environ.get("MEZZOTINT_GOLDEN") or HERE.parent / "golden")
MARKER = re.compile(r"mark\.golden\(([^)]*)\)")
DEFAULT = {"float64": (1e-9, 1e-10), "float32": (1e-4, 2e-5)}


class Golden:
    """One folder of recorded inputs and outputs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.meta: dict[str, Any] = json.loads((folder / "meta.json").read_text())
        self.config: dict[str, Any] = self.meta.get("config", {})
        self.tensors = load_file(folder / "vectors.safetensors")

    def __getitem__(self, name: str) -> torch.Tensor:
        return self.tensors[name]

    def __contains__(self, name: str) -> bool:
        return name in self.tensors

    def names(self, pattern: str = "") -> list[str]:
        """Names of tensors that match a regular expression as a whole; all without one."""
        return [name for name in self.tensors if not pattern or re.fullmatch(pattern, name)]

    def outputs(self) -> list[str]:
        """Names of the tensors that an implementation must reproduce."""
        return [name for name, about in self.meta.get("tensors", {}).items() if about.get("role") == "output"]

    def check(self, name: str, got: torch.Tensor, **tolerance: float) -> None:
        """`got` equals the tensor `name`: integers exactly, floats within the folder's own tolerance for it."""
        want = self.tensors[name]
        if not want.is_floating_point():
            assert torch.equal(got.to(want.dtype), want), f"{name}: {got} is not {want}"
            return
        rtol, atol = DEFAULT.get(str(want.dtype).removeprefix("torch."), (1e-4, 2e-5))
        stated = {"rtol": rtol, "atol": atol} | self.meta.get("tensors", {}).get(name, {}).get("tolerance", {})
        limits = {**stated, **tolerance}
        torch.testing.assert_close(
            got.to(want.dtype), want, rtol=limits["rtol"], atol=limits["atol"], msg=lambda text: f"{name}: {text}"
        )


def folders() -> list[str]:
    """Names of the folders found."""
    return sorted(path.name for path in ROOT.iterdir() if path.is_dir())


def claimed() -> set[str]:
    """Names of the folders that some test reads."""
    calls = (call for file in HERE.glob("test_*.py") for call in MARKER.findall(file.read_text(encoding="utf-8")))
    return {name for call in calls for name in re.findall(r'"(\w+)"', call)}
