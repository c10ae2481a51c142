"""The shipped part of a hybrid on disk: a drafter's weights in eight bits, and what they belong to.

One safetensors file.  Matrices are stored as int8 with one float16 scale per 32 inputs (`name`, `name.scale`), the
rest as float16, `ids` as int32.  The metadata holds the sizes and the name of the causal network.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from mezzotint.denoisers.draft_network import DrafterShape
from mezzotint.errors import CheckpointError

if TYPE_CHECKING:
    from mezzotint.denoisers.networks.drafter import Drafter

BLOCK = 32


def save_adapter(drafter: "Drafter", path: Path, base: str, notes: dict[str, Any]) -> None:
    """Write a drafter; `base` names the causal network, `notes` say how it was trained."""
    arrays: dict[str, NDArray[Any]] = {}
    for name, value in drafter.state_dict().items():
        x = value.detach().float().cpu().numpy()
        if name == "ids":
            arrays[name] = value.cpu().numpy().astype(np.int32)
        elif x.ndim == 2:
            blocks = x.reshape(len(x), -1, BLOCK)
            scale = (np.abs(blocks).max(-1) / 127).astype(np.float16)
            codes = np.rint(blocks / np.maximum(scale.astype(np.float32), 1e-8)[..., None]).clip(-127, 127)
            arrays[name] = codes.astype(np.int8).reshape(x.shape)
            arrays[name + ".scale"] = scale
        else:
            arrays[name] = x.astype(np.float16)
    metadata = {"format": "mezzotint-drafter-1", "base": base, "shape": json.dumps(drafter.shape.to_dict())}
    save_file(arrays, path, metadata | {"notes": json.dumps(notes)})


def load_adapter(path: Path) -> tuple[DrafterShape, dict[str, NDArray[Any]], dict[str, str]]:
    """Sizes, float arrays by the names of `Drafter.state_dict()`, and the metadata; ids are Int[D].

    Raises:
        CheckpointError: not such a file, or a damaged one.
    """
    try:
        with safe_open(path, "numpy") as file:
            metadata = file.metadata() or {}
            raw = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  not a dict
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"cannot read the adapter {path}: {error}") from error
    if metadata.get("format") != "mezzotint-drafter-1":
        raise CheckpointError(f"{path} is no drafter of mezzotint: its metadata has no format mezzotint-drafter-1")
    try:
        shape = DrafterShape.from_dict(json.loads(metadata["shape"]))
        arrays = {name: _floats(name, value, raw) for name, value in raw.items() if not name.endswith(".scale")}
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"the adapter {path} is damaged ({error}): fetch or train it again") from error
    if not arrays.get("ids", np.empty(0)).size:
        raise CheckpointError(f"the adapter {path} is damaged (it has no ids): fetch or train it again")
    return shape, arrays, metadata


def _floats(name: str, value: NDArray[Any], raw: dict[str, NDArray[Any]]) -> NDArray[Any]:
    if value.dtype == np.int8:
        scale = raw[name + ".scale"].astype(np.float32)
        return (value.reshape(len(value), -1, BLOCK).astype(np.float32) * scale[..., None]).reshape(value.shape)
    return value if name == "ids" else value.astype(np.float32)
