"""A network as the loop of decoding wants it: (canvas, step) -> logits of the step's window.

The reader lays the columns out that a cache policy asks for, lets the network read them, and takes only the window's
columns through the head.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from mezzotint.decode.caches.policies import CacheStore, KeyValueMemory, Policy, Read, nothing
from mezzotint.decode.canvas import Canvas, Step
from mezzotint.layouts import Attend, Inputs
from mezzotint.masks import Mask

Visibility = Callable[[int], Mask | None]
"""Columns read before -> who sees whom among all of them; `full` for networks whose columns all see each other."""


class Network(Protocol):
    """A denoiser in two halves, with a memory."""

    lookback: int
    """1 where the logits of a column stand at the column before it, else 0."""

    def hidden(self, inputs: Inputs, t: Tensor | None) -> Tensor:
        """Float[B, N, D]; what is read is added to `inputs.memory`."""
        ...

    def head(self, h: Tensor) -> Tensor:
        """Float[..., V]: logits of Float[..., D]."""
        ...

    def memory(self, rows: int, columns: int) -> KeyValueMemory:
        """Room for the keys and values of `columns` columns."""
        ...


ReadColumns = Callable[[Inputs, Tensor | None, Tensor | None], Tensor | None]
"""(inputs, time, Long[B, W]: which of the inputs' columns) -> their logits Float[B, W, V]; None for no columns."""


@runtime_checkable
class Ready(Protocol):
    """A network that may have a faster way through both halves."""

    def ready(self) -> ReadColumns | None:
        """That way, for the weights as they are now; None where there is none."""
        ...


def full(before: int) -> Mask | None:
    """Every column sees every column."""
    return None


@dataclass(frozen=True)
class ClassifierFreeGuidance:
    """Logits u + (1 + scale) (c - u): c with the given columns as they are, u without what they say (LLaDA, MMaDA)."""

    scale: float
    instead: Tensor
    """Long[1] or Long[B, L]: what the unconditional half reads in given columns: the mask, or another prompt."""
    valid: Tensor | None = None
    """Bool[B, L]: columns that are not padding in the unconditional half; None is those of the canvas."""

    def unknowing(self, canvas: Canvas) -> Tensor:
        """Long[B, L]: the canvas as the unconditional half of the network sees it."""
        return torch.where(canvas.fixed, self.instead, canvas.tokens)

    def mixed(self, raw: Tensor) -> Tensor:
        """Float[B, W, V] from the logits of both halves, Float[2B, W, V]."""
        given, blind = raw.chunk(2)
        return blind + (1 + self.scale) * (given - blind)


@dataclass
class Reader:
    """The network over one batch of canvases."""

    network: Network
    policy: Policy = nothing
    sees: Visibility = full
    valid: Tensor | None = None
    """Bool[B, L]: columns that hold something; None is all.  Positions are counted over these."""
    guidance: ClassifierFreeGuidance | None = None
    timed: bool = False
    """Tell the network the step's time."""
    passes: list[int] = field(default_factory=list)
    """How many columns each pass read, per row."""
    store: CacheStore | None = None
    answer: ReadColumns | None = None

    def __call__(self, canvas: Canvas, step: Step, only: Tensor | None = None) -> Tensor:
        """Float[B, W, V]: logits of the step's window, or of those of its columns that Long[B, w] `only` counts."""
        if self.store is None:
            self.store = self._fresh(canvas)
            faster = self.network.ready() if isinstance(self.network, Ready) else None
            self.answer = faster or partial(halves, self.network)
        raw = None
        for read in self.policy(self.store, canvas, step):
            if only is not None and read.rows is not None:
                read = replace(read, rows=read.rows.gather(-1, only))
            raw = self._pass(read, canvas, step)
        assert raw is not None
        return raw

    def _fresh(self, canvas: Canvas) -> CacheStore:
        rows, width = canvas.tokens.shape
        none = torch.zeros(rows, 0, dtype=torch.long, device=canvas.tokens.device)
        memory = None
        if self.policy is not nothing:
            memory = self.network.memory(rows * (2 if self.guidance else 1), width)
        return CacheStore(memory, none, self.network.lookback)

    def _pass(self, read: Read, canvas: Canvas, step: Step) -> Tensor | None:
        store, count = self.store, read.columns.shape[1]
        assert store is not None
        assert self.answer is not None
        if store.memory is not None:
            store.memory.truncate(read.kept)
        store.order = torch.cat([store.order[:, : read.kept], read.columns], -1)
        tokens, columns, order, valid = canvas.tokens, read.columns, store.order, self.valid
        if self.guidance is not None:
            tokens = torch.cat([tokens, self.guidance.unknowing(canvas)])
            columns, order = columns.repeat(2, 1), order.repeat(2, 1)
            valid = self._both(canvas)
        places = columns
        if valid is not None:
            places = (valid.long().cumsum(-1) - 1).clamp_min(0).gather(-1, columns)
            valid = valid.gather(-1, order)
        attend = Attend(count, read.kept + count, self.sees(read.kept), valid)
        memory = store.memory
        inputs = Inputs(tokens.gather(-1, columns), places, attend, memory=memory)
        self.passes.append(count)
        rows = read.rows
        if rows is not None and self.guidance is not None:
            rows = rows.repeat(2, 1)
        raw = self.answer(inputs, step.t if self.timed else None, rows)
        return raw if raw is None or self.guidance is None else self.guidance.mixed(raw)

    def _both(self, canvas: Canvas) -> Tensor | None:
        """Bool[2B, L]: what is not padding in both halves of a guided pass."""
        assert self.guidance is not None
        blind = self.valid if self.guidance.valid is None else self.guidance.valid
        if self.valid is None and blind is None:
            return None
        everything = torch.ones_like(canvas.open)
        return torch.cat([everything if half is None else half for half in (self.valid, blind)])


def halves(network: Network, inputs: Inputs, t: Tensor | None, rows: Tensor | None) -> Tensor | None:
    """A `ReadColumns` of a network's two halves: Float[B, R, V] of the columns `rows`, Long[B, R]; None for none."""
    h = network.hidden(inputs, t)
    return None if rows is None else network.head(h.gather(1, rows[..., None].expand(-1, -1, h.shape[-1])))
