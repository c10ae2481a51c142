"""Wrappers, Denoiser -> Denoiser: what a network is asked, and how often, is no business of objectives and samplers.

Wrappers that choose rows while training toss coins that are a pure function of what a row reads: its noise makes them
fair, and nothing has to be remembered or passed along.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from mezzotint.errors import ConfigError
from mezzotint.layouts import Inputs
from mezzotint.rng import uniform

Drop = Callable[[Inputs, Tensor | None], tuple[Inputs, Tensor | None]]
"""Inputs and times -> the same without what they are conditioned on."""

_ESTIMATE, _DROP = 0x5E1F, 0xD209


class SelfConditioned(nn.Module):
    """A network that reads its own last estimate (analog bits, 2208.04202, sec. 3.2; SED, 2211.04236, sec. 3.3).

    The network takes [z ; estimate], Float[B, N, 2 E].  Given that, it is asked once: samplers pass the estimate of
    their last step.  Given Float[B, N, E] alone, a first pass on an estimate of zeros, without gradients, gives the
    estimate for a second one; while training only for a `share` of the rows, the others are trained on zeros.
    """

    def __init__(self, network: nn.Module, width: int, share: float = 0.5) -> None:
        """`width` is E.

        Raises:
            ConfigError: a share outside [0, 1].
        """
        super().__init__()
        if not 0 <= share <= 1:
            raise ConfigError(f"cannot condition a share of {share} of the rows: take one in [0, 1]")
        self.network, self.width, self.share = network, width, share
        self.lookback: int = 0

    def forward(self, inputs: Inputs, t: Tensor | None = None) -> Tensor:
        """Float[B, N, E] estimates."""
        if inputs.x.shape[-1] == 2 * self.width:
            return self.network(inputs, t)
        empty = torch.zeros_like(inputs.x)
        share = self.share if self.training else 1.0
        rows = (_coin(inputs.x, _ESTIMATE) < share).nonzero()[:, 0]
        if len(rows):
            with torch.no_grad():
                first = self.network(taken(_beside(inputs, empty), rows), _rows(t, rows))
            empty = empty.index_copy(0, rows, first.to(empty.dtype))
        return self.network(_beside(inputs, empty), t)


@dataclass(frozen=True)
class ClassConditioned:
    """A network in two halves (`decode.reader.Network`) that hears the same labels in every pass."""

    network: Any
    labels: Tensor
    """Long[B]."""

    @property
    def lookback(self) -> int:
        """The network's."""
        return self.network.lookback

    def hidden(self, inputs: Inputs, t: Tensor | None) -> Tensor:
        """Float[B, N, D]."""
        return self.network.hidden(replace(inputs, label=self.labels), t)

    def head(self, h: Tensor) -> Tensor:
        """Float[..., V]."""
        return self.network.head(h)

    def memory(self, rows: int, columns: int) -> Any:
        """Room for keys and values."""
        return self.network.memory(rows, columns)


class ClassifierFree(nn.Module):
    """Guidance without a classifier (2207.12598): without + scale (with - without), on whatever the network answers.

    While training, a `share` of the rows is asked without its condition and nothing is combined.  Scale 1 is the
    condition alone, 0 none; both are asked once.

    Args:
        network: the denoiser.
        drop: takes the condition away; an estimate that came from it must go too.
        scale: a number, or Float[B, 1], one per row.
        share: of rows without their condition while training.
    """

    def __init__(self, network: nn.Module, drop: Drop, scale: float | Tensor = 1.0, share: float = 0.1) -> None:
        super().__init__()
        self.network, self.drop, self.scale, self.share = network, drop, scale, share
        self.lookback: int = 0

    def forward(self, inputs: Inputs, t: Tensor | None = None) -> Tensor:
        """As the network's answer."""
        if self.training:
            return self._mixed(inputs, t)
        if not isinstance(self.scale, Tensor):
            if self.scale == 1:
                return self.network(inputs, t)
            if self.scale == 0:
                return self.network(*self.drop(inputs, t))
        without = self.network(*self.drop(inputs, t))
        scale = self.scale.to(without)[..., None] if isinstance(self.scale, Tensor) else self.scale
        return without + scale * (self.network(inputs, t) - without)

    def _mixed(self, inputs: Inputs, t: Tensor | None) -> Tensor:
        bare = _coin(inputs.x, _DROP) < self.share
        parts: list[Tensor] = []
        for rows, change in ((bare.nonzero()[:, 0], self.drop), ((~bare).nonzero()[:, 0], _as_is)):
            if len(rows):
                parts.append(self.network(*change(taken(inputs, rows), _rows(t, rows))))
        order = torch.cat([bare.nonzero()[:, 0], (~bare).nonzero()[:, 0]])
        return torch.cat(parts)[order.argsort()]


class Ungiven:
    """A `Drop` for networks on vectors: given columns, those at time 0, become empty ones, estimates become zeros.

    The emptied columns are told the time of the others, so that they no longer look given (SED, sec. 3.5).
    """

    def __init__(self, width: int) -> None:
        """`width` is E."""
        self.width = width

    def __call__(self, inputs: Inputs, t: Tensor | None) -> tuple[Inputs, Tensor]:
        """Inputs Float[B, N, 2 E], whose estimates are zeros, and the times, Float[B, 1 or N].

        Raises:
            ConfigError: no time was given, so that nobody can know which columns are.
        """
        if t is None:
            raise ConfigError("columns are known to be given by their time, and no time was given")
        given = (t == 0).expand(inputs.x.shape[:2])
        z = inputs.x[..., : self.width].masked_fill(given[..., None], 0)
        x = torch.cat([z, torch.zeros_like(z)], -1)
        return replace(inputs, x=x), torch.where(t == 0, t.amax(-1, keepdim=True), t)


def taken(inputs: Inputs, rows: Tensor) -> Inputs:
    """The rows Long[n] of a batch."""

    def some(x: Any) -> Any:
        return None if x is None else x[rows]

    positions = inputs.positions[rows] if inputs.positions.dim() == 2 else inputs.positions
    return Inputs(inputs.x[rows], positions, inputs.attend.of(rows), some(inputs.label), inputs.memory)


def _as_is(inputs: Inputs, t: Tensor | None) -> tuple[Inputs, Tensor | None]:
    return inputs, t


def _beside(inputs: Inputs, estimate: Tensor) -> Inputs:
    return replace(inputs, x=torch.cat([inputs.x, estimate], -1))


def _rows(t: Tensor | None, rows: Tensor) -> Tensor | None:
    return None if t is None else t[rows]


def _coin(x: Tensor, name: int) -> Tensor:
    """Float64[B] in (0, 1), from the bits of each row's sum."""
    words = x.detach().double().flatten(1).sum(1).view(torch.int64)
    return uniform(words, torch.tensor(name, device=x.device), torch.zeros_like(words))
