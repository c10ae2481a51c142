"""AdamW or Muon, and the shapes a learning rate takes over a run.

A shape maps the used share of the budget, in (0, 1], to a factor in (0, 1].  A run limited by time instead of steps
then needs nothing else.
"""

import math
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import nn

from mezzotint.config import Named, config
from mezzotint.train.muon import Muon

Share = Annotated[float, Field(ge=0, le=1)]


@config
class Constant:
    """Warm up, then stay."""

    kind: Literal["constant"] = "constant"
    warmup: Share = 0.02
    """Share of the run spent rising from zero."""

    def factor(self, used: float) -> float:
        """The learning rate's factor after a share `used` of the budget."""
        return _rise(used, self.warmup)


@config
class WSD:
    """Warm up, stay, then fall as 1 - sqrt to `floor` (2405.18392, sec. 3)."""

    kind: Literal["wsd"] = "wsd"
    warmup: Share = 0.02
    """Share of the run spent rising from zero."""
    decay: Share = 0.2
    """Share of the run spent falling, at its end."""
    floor: Share = 0.0
    """Factor at the end."""

    def factor(self, used: float) -> float:
        """The learning rate's factor after a share `used` of the budget."""
        start = 1 - self.decay
        if used <= start or not self.decay:
            return _rise(used, self.warmup)
        fallen = math.sqrt(min((used - start) / self.decay, 1))
        return _rise(used, self.warmup) * (1 - (1 - self.floor) * fallen)


@config
class Cosine:
    """Warm up, then fall along half a cosine to `floor` (SGDR, 1608.03983, eq. 5, without restarts)."""

    kind: Literal["cosine"] = "cosine"
    warmup: Share = 0.02
    """Share of the run spent rising from zero."""
    floor: Share = 0.1
    """Factor at the end."""

    def factor(self, used: float) -> float:
        """The learning rate's factor after a share `used` of the budget."""
        if used < self.warmup:
            return _rise(used, self.warmup)
        fallen = min((used - self.warmup) / max(1 - self.warmup, 1e-9), 1)
        return self.floor + (1 - self.floor) * (1 + math.cos(math.pi * fallen)) / 2


Shape = Annotated[Constant | WSD | Cosine, Field(discriminator="kind"), Named]


@config
class Optim:
    """AdamW (1711.05101); matrices decay, vectors and scalars do not."""

    kind: Literal["adamw"] = "adamw"
    lr: float = Field(default=3e-4, gt=0)
    """Learning rate at its highest."""
    betas: tuple[Share, Share] = (0.9, 0.98)
    eps: float = Field(default=1e-8, gt=0)
    weight_decay: float = Field(default=0.01, ge=0)
    shape: Shape = WSD()

    def build(self, parameters: dict[str, nn.Parameter]) -> torch.optim.AdamW:
        """The optimiser over these named parameters."""
        matrices = [p for p in parameters.values() if p.ndim >= 2]
        others = [p for p in parameters.values() if p.ndim < 2]
        groups = [{"params": matrices, "weight_decay": self.weight_decay}, {"params": others, "weight_decay": 0.0}]
        groups = [group for group in groups if group["params"]]
        return torch.optim.AdamW(groups, lr=self.lr, betas=self.betas, eps=self.eps, fused=True)

    def set_rate(self, optimizer: torch.optim.Optimizer, used: float) -> float:
        """Set and return the learning rate for the used share of the run."""
        return _set_rate(self.lr, self.shape, optimizer, used)


@config
class Orthogonal:
    """Muon (2502.16982) for matrices, AdamW for vectors and scalars: fewer steps to the same loss, dearer ones."""

    kind: Literal["muon"] = "muon"
    lr: float = Field(default=0.02, gt=0)
    """Learning rate of matrices at its highest."""
    vectors: float = Field(default=0.1, gt=0)
    """Learning rate of vectors, as a share of `lr`."""
    momentum: Share = 0.95
    rounds: int = Field(default=4, gt=0)
    """Newton-Schulz steps per update."""
    weight_decay: float = Field(default=0.02, ge=0)
    shape: Shape = WSD()

    def build(self, parameters: dict[str, nn.Parameter]) -> torch.optim.Optimizer:
        """The optimiser over these named parameters."""
        matrices = [p for p in parameters.values() if p.ndim == 2]
        others = [p for p in parameters.values() if p.ndim != 2]
        groups: list[dict[str, Any]] = []
        if matrices:
            groups.append({"params": matrices, "orthogonal": True, "weight_decay": self.weight_decay})
        if others:
            groups.append({"params": others, "scale": self.vectors})
        return Muon(groups, self.lr, self.momentum, self.rounds)

    def set_rate(self, optimizer: torch.optim.Optimizer, used: float) -> float:
        """Set and return the learning rate for the used share of the run."""
        return _set_rate(self.lr, self.shape, optimizer, used)


AnyOptim = Annotated[Optim | Orthogonal, Field(discriminator="kind"), Named]


def _set_rate(lr: float, shape: Shape, optimizer: torch.optim.Optimizer, used: float) -> float:
    rate = lr * shape.factor(used)
    for group in optimizer.param_groups:
        group["lr"] = rate
    return rate


def _rise(used: float, warmup: float) -> float:
    # never exactly zero: the first steps of a run limited by time come at a share of 0
    return 1.0 if used >= warmup else max(used / warmup, 1e-3)
