"""Checkpoints of a training run: written whole or not at all.

    RUN/run.json                    the configuration and how it ran
    RUN/metrics.jsonl               one line per logged step, evaluation and event
    RUN/checkpoints/step-00001200/  weights.safetensors  optimizer.safetensors  [average.safetensors]  state.json
    RUN/export/                     what others load, written at the end

A checkpoint is written under a temporary name, flushed to the disk and then renamed, so a killed run or a full disk
leaves the former ones as they were.  Nothing is pickled: loading a checkpoint never runs code.
"""

import json
import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from mezzotint.errors import CheckpointError
from mezzotint.train.ema import Average
from mezzotint.train.run_files import saved


@dataclass
class Progress:
    """Where a run is; everything the next step depends on besides tensors."""

    step: int = 0
    """Optimiser steps done."""
    seconds: float = 0.0
    """Wall-clock time used, over all sessions of the run."""
    tokens: int = 0
    window: dict[str, Any] = field(default_factory=dict)
    """Sums of the metrics since the last logged line."""
    identity: str = ""
    """Of the task that was trained."""


def save(
    folder: Path,
    parameters: dict[str, nn.Parameter],
    optimizer: torch.optim.Optimizer,
    average: Average | None,
    progress: Progress,
    keep: int,
) -> Path:
    """Write the checkpoint of `progress.step` into `folder`, then drop all but the newest `keep`.

    Raises:
        CheckpointError: the disk refused; every earlier checkpoint is untouched.
    """
    final = folder / f"step-{progress.step:08d}"
    temporary = folder / f".writing-{progress.step:08d}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        save_file({name: p.detach().contiguous() for name, p in parameters.items()}, temporary / "weights.safetensors")
        save_file(_optimizer_tensors(parameters, optimizer), temporary / "optimizer.safetensors")
        if average is not None:
            save_file(average.weights, temporary / "average.safetensors")
        state = {**vars(progress), "average_updates": average.updates if average else 0}
        state["optimizer"] = type(optimizer).__name__
        (temporary / "state.json").write_text(json.dumps(state), encoding="utf-8")
        for path in [*temporary.iterdir(), temporary]:
            _flush(path)
        if final.exists():
            shutil.rmtree(final)
        temporary.rename(final)
        _flush(folder)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise CheckpointError(
            f"cannot save step {progress.step} in {folder}: {error}; earlier checkpoints are unharmed"
        ) from None
    for old in saved(folder)[:-keep]:
        shutil.rmtree(old, ignore_errors=True)
    return final


def load(
    path: Path, parameters: dict[str, nn.Parameter], optimizer: torch.optim.Optimizer, average: Average | None
) -> Progress:
    """Put a checkpoint back, exactly as it was saved.

    Raises:
        CheckpointError: it cannot be read, or belongs to another network or optimiser.
    """
    try:
        weights = load_file(path / "weights.safetensors")
        moments = load_file(path / "optimizer.safetensors")
        averaged = load_file(path / "average.safetensors") if average is not None else {}
        state = json.loads((path / "state.json").read_text(encoding="utf-8"))
        progress = Progress(*(state[name] for name in ("step", "seconds", "tokens", "window")))
        updates = state["average_updates"]
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise CheckpointError(f"cannot read the checkpoint {path}: {error}") from None
    progress.identity = state.get("identity", "")
    _check_fit(path, weights, parameters)
    now, then = type(optimizer).__name__, state.get("optimizer")
    if then not in (None, now):
        raise CheckpointError(
            f"cannot go on with {path} by {now}: it holds the moments of {then}; leave train.optim as it was"
        )
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(weights[name])
            keys = [key.removesuffix(f".{name}") for key in moments if key.endswith(f".{name}")]
            # of "weight" and "tap.weight" both end so: the key itself has no dot
            state_of = {key: moments[f"{key}.{name}"].to(parameter.device) for key in keys if "." not in key}
            if state_of:
                optimizer.state[parameter] = state_of
    if average is not None:
        average.weights = {name: averaged[name].to(p.device) for name, p in parameters.items()}
        average.updates = updates
    return progress


def load_weights(path: Path, network: nn.Module, *, average: bool = True) -> None:
    """Put only the trained parameters of a checkpoint into `network`: the averaged ones where it has them.

    Raises:
        CheckpointError: it cannot be read, or belongs to another network.
    """
    file = path / "average.safetensors"
    if not average or not file.is_file():
        file = path / "weights.safetensors"
    try:
        weights = load_file(file)
    except (OSError, ValueError, SafetensorError) as error:
        raise CheckpointError(f"cannot read the checkpoint {path}: {error}") from None
    parameters = trainable(network)
    _check_fit(path, weights, parameters)
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(weights[name])


def trainable(network: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that training changes, by name; shared ones once."""
    return {name: p for name, p in network.named_parameters() if p.requires_grad}


def _optimizer_tensors(parameters: dict[str, nn.Parameter], optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    tensors = {}
    for name, parameter in parameters.items():
        for key, value in optimizer.state.get(parameter, {}).items():
            tensors[f"{key}.{name}"] = value.detach().contiguous()
    return tensors


def _check_fit(path: Path, weights: dict[str, Tensor], parameters: dict[str, nn.Parameter]) -> None:
    for name in [*parameters, *weights]:
        if name not in weights or name not in parameters:
            where = "the network" if name not in parameters else "it"
            raise CheckpointError(f"the checkpoint {path} belongs to another network: {where} has no {name}")
        if weights[name].shape != parameters[name].shape:
            found, wanted = tuple(weights[name].shape), tuple(parameters[name].shape)
            raise CheckpointError(f"the checkpoint {path} belongs to another network: {name} is {found}, not {wanted}")


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
