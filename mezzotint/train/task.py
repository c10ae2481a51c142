"""What a recipe hands to the trainer, and the settings of the trainer itself."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from pydantic import Field
from torch import nn

from mezzotint.config import config
from mezzotint.objectives.base import Objective
from mezzotint.train.optim import AnyOptim, Optim


class Data(Protocol):
    """Random access to micro-batches: the same (step, seed) always gives the same batch, in any order."""

    def batch(self, step: int, seed: int) -> Any:
        """The micro-batch with this number since the beginning of training.

        Tensors, dataclasses, tuples, lists and dicts of tensors are moved to the device by the trainer.
        """
        ...


@dataclass(frozen=True)
class Task:
    """One thing to train, complete."""

    network: nn.Module
    """Only parameters with `requires_grad` are optimised and saved."""
    objective: Objective
    """(network, batch, rng) -> Loss."""
    data: Data
    evaluate: Callable[[nn.Module], dict[str, float | str]] | None = None
    """Called without gradients, in eval mode, with averaged weights where there are any; texts are shown as samples."""
    export: Callable[[nn.Module, Path], None] | None = None
    """Writes what others load into an existing empty folder."""
    identity: str = ""
    """Of the text, its vocabulary and the family: a run goes on only with those it began with."""
    describe: Callable[[nn.Module, Path], None] | None = None
    """Writes what a checkpoint lacks of a model into the folder of checkpoints, so that a run can be sampled before its
    end."""


@config
class Train:
    """How long, how fast and how carefully to train."""

    steps: int | None = Field(default=1000, gt=0)
    """Optimiser steps; null leaves the end to `max_minutes`."""
    max_minutes: float | None = Field(default=None, gt=0)
    """Stop after this much wall-clock time; the learning rate follows the larger used share of the two budgets."""
    seed: int = Field(default=0, ge=0)
    """Of the network's start, of windows and of noise."""
    optim: AnyOptim = Optim()
    accumulate: int = Field(default=1, gt=0)
    """Micro-batches per optimiser step."""
    clip: float | None = Field(default=1.0, gt=0)
    """Largest norm of the gradient."""
    ema: float | None = Field(default=None, gt=0, lt=1)
    """Decay of averaged weights, which evaluation and export then use."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """bfloat16 runs the forward pass under autocast; weights and sums stay float32."""
    device: str = "auto"
    """A torch device; "auto" takes CUDA when there is one."""
    compile: bool = False
    """Compile the network with torch.compile."""
    log_every: int = Field(default=10, gt=0)
    """Steps per line of metrics.jsonl."""
    eval_every: int | None = Field(default=None, gt=0)
    """Steps between evaluations; the end is always evaluated."""
    eval_first: bool = False
    """Evaluate before the first step as well, where there is something to compare with."""
    save_every: int | None = Field(default=None, gt=0)
    """Steps between checkpoints; the end is always saved."""
    save_minutes: float | None = Field(default=10.0, gt=0)
    """Minutes between checkpoints."""
    keep: int = Field(default=2, gt=0)
    """Newest checkpoints kept."""
