"""Adapter folders in PEFT's layout (adapter_config.json, adapter_model.safetensors) on top of their base.

Only low-rank adapters of linear layers are read: W + s B A with s = lora_alpha / r, or lora_alpha / sqrt(r) where
`use_rslora` says so (LoRA, 2106.09685, eq. 3; rsLoRA, 2312.03732).  Every field that would change the computation in
another way, and every tensor without a place, is refused by name.
"""

import fnmatch
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from mezzotint.checkpoints.base import Checkpoint, QuantisedBlocks, Tensor
from mezzotint.errors import CheckpointError

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
PREFIX = "base_model.model."
_KEY = re.compile(r"(?P<module>.+)\.lora_(?P<which>[AB])\.(?:default\.)?weight")
_REFUSED = ("use_dora", "fan_in_fan_out", "modules_to_save", "lora_bias", "use_qalora", "alora_invocation_tokens")
"""Fields that change the computation, and that nothing here computes, wherever they say something."""


@dataclass(frozen=True, slots=True)
class AdaptedTensor:
    """A matrix of the base with the adapter's product added."""

    base: Tensor
    a: Tensor
    """[r, in]."""
    b: Tensor
    """[out, r]."""
    scale: float

    @property
    def shape(self) -> tuple[int, ...]:
        """That of the base."""
        return self.base.shape

    @property
    def file(self) -> Path:
        """The base's, which is what most of it comes from."""
        return self.base.file

    @property
    def dtype(self) -> str:
        """What reading gives."""
        return "f32"

    def read(self) -> np.ndarray:
        """Float32[out, in]."""
        return self.base.read() + np.float32(self.scale) * (self.b.read() @ self.a.read())

    def blocks(self) -> QuantisedBlocks | None:
        """None: the sum is no longer what was quantised."""
        return None


def is_adapter(path: Path) -> bool:
    """Whether a folder holds an adapter and no model of its own."""
    return (path / CONFIG).is_file() and not (path / "config.json").is_file()


def base_of(path: Path) -> str:
    """What an adapter says that its base is: a folder, or a hub id.

    Raises:
        CheckpointError: it says nothing.
    """
    said = _settings(path).get("base_model_name_or_path")
    if not isinstance(said, str) or not said:
        raise CheckpointError(f"{path / CONFIG} names no base_model_name_or_path: say which model it belongs to")
    return said


def open_adapter(path: Path, opened: Callable[[str], Checkpoint]) -> Checkpoint:
    """The base of an adapter with the adapter on it.

    Args:
        path: the adapter's folder.
        opened: opens a base by what `base_model_name_or_path` says.

    Raises:
        CheckpointError: a base that is not here, another kind of adapter, or tensors that do not fit.
    """
    from mezzotint.checkpoints.folder import read_safetensors

    settings, said = _settings(path), base_of(path)
    beside = path / said
    base = opened(str(beside) if not Path(said).is_absolute() and beside.is_dir() else said)
    stored = read_safetensors(path / WEIGHTS)
    pairs: dict[str, dict[str, Tensor]] = {}
    for key, tensor in stored.items():
        found = _KEY.fullmatch(key.removeprefix(PREFIX))
        if found is None:
            raise CheckpointError(f"{path / WEIGHTS} holds {key}, which is no low-rank matrix: it cannot be used here")
        pairs.setdefault(found["module"], {})[found["which"]] = tensor
    tensors = dict(base.tensors)
    for module, pair in pairs.items():
        name = f"{module}.weight"
        if name not in tensors:
            raise CheckpointError(f"{path} adapts {module}, and {base.name} has no such matrix: it is for another base")
        tensors[name] = _adapted(path, settings, module, pair, tensors[name])
    return replace(base, name=path.resolve().name, tensors=tensors)


def _adapted(path: Path, settings: dict[str, Any], module: str, pair: dict[str, Tensor], base: Tensor) -> Tensor:
    if set(pair) != {"A", "B"}:
        raise CheckpointError(f"{path / WEIGHTS} has one of the two matrices of {module} only: it is incomplete")
    a, b = pair["A"], pair["B"]
    if len(a.shape) != 2 or len(b.shape) != 2 or (b.shape[0], a.shape[1]) != base.shape or a.shape[0] != b.shape[1]:
        raise CheckpointError(
            f"{path} adapts {module} by {list(b.shape)} and {list(a.shape)}, which does not fit {list(base.shape)}: it "
            "is for another base"
        )
    alpha = _by_module(settings.get("alpha_pattern"), module, settings.get("lora_alpha", 8))
    if not isinstance(alpha, int | float) or isinstance(alpha, bool) or not np.isfinite(alpha):
        raise CheckpointError(f"{path / CONFIG} says lora_alpha {alpha!r}: it must be a number")
    rank = a.shape[0]
    return AdaptedTensor(base, a, b, alpha / (rank**0.5 if settings.get("use_rslora") else rank))


def _by_module(pattern: Any, module: str, usual: Any) -> Any:
    """The entry of a pattern that a module matches, by its end as PEFT has it."""
    for key, value in (pattern or {}).items():
        if re.fullmatch(rf"(.*\.)?({key})", module) or fnmatch.fnmatchcase(module, f"*.{key}"):
            return value
    return usual


def _settings(path: Path) -> dict[str, Any]:
    try:
        settings = json.loads((path / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"cannot read {path / CONFIG} ({error}): fetch the adapter again") from None
    if not isinstance(settings, dict):
        raise CheckpointError(f"{path / CONFIG} is damaged: it holds no object")
    kind = settings.get("peft_type")
    if kind != "LORA":
        raise CheckpointError(f"{path} is an adapter of type {kind!r}: only LORA is read here; merge it into its base")
    if settings.get("bias", "none") != "none":
        raise CheckpointError(f"{path} adapts biases (bias={settings['bias']!r}), which is not read: merge it")
    for field in _REFUSED:
        if settings.get(field):
            raise CheckpointError(
                f"{path} sets {field} to {settings[field]!r}, which is not read: merge it into its base"
            )
    return settings
