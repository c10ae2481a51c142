"""Where a run computes: the device by name, and batches on it."""

from dataclasses import fields, is_dataclass, replace
from typing import Any

import torch
from torch import Tensor

from mezzotint.errors import ConfigError


def pick_device(name: str) -> torch.device:
    """The device called `name`; "auto" is CUDA where there is one.

    Raises:
        ConfigError: no such device here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(f"cannot use the device {name!r} here: {str(error).splitlines()[0]}") from None
    return device


def to_device(batch: Any, device: torch.device) -> Any:
    """The batch with every tensor in it on `device`; looks into dataclasses, tuples, lists and dicts."""
    if isinstance(batch, Tensor):
        return batch.to(device, non_blocking=True)
    if is_dataclass(batch) and not isinstance(batch, type):
        return replace(batch, **{f.name: to_device(getattr(batch, f.name), device) for f in fields(batch) if f.init})
    if isinstance(batch, dict):
        return {key: to_device(value, device) for key, value in batch.items()}
    if isinstance(batch, (tuple, list)):
        return type(batch)(to_device(value, device) for value in batch)
    return batch
