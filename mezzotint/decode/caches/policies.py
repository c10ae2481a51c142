"""Which columns a network reads anew in a step, and whose keys and values it still knows.

A policy maps (store, canvas, step) to the passes of that step.  A store keeps columns in the order in which they were
read, so a pass never writes into the middle of what is kept: it forgets everything from some place on and reads the
rest behind it.  Positions travel with the columns, so the order is free wherever every column sees every other.

    nothing       everything, every time
    Prefix        what stands before the window is read once per window      (Fast-dLLM, 2505.22618, sec. 3.2)
    Dual          everything outside the window is read once per window      (Fast-dLLM, sec. 3.2)
    Delayed       a column is kept once it was read decided                  (dKV-Cache, 2505.15781, Decode)
    Settled       block-causal networks: finished blocks are read once; exact (BD3LM, 2503.09573, sec. 3.2)
    Sorted        causal networks over decided columns first; exact           (WeDLM, 2512.22737)

Prefix, Dual and Delayed are approximations but for the steps in which they read everything.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from mezzotint.decode.canvas import Canvas, Span, Step
from mezzotint.layouts import Memory


class KeyValueMemory(Memory, Protocol):
    """A memory that can forget."""

    length: int

    def truncate(self, length: int) -> None:
        """Forget what was read after the first `length` columns."""
        ...

    def gather(self, columns: Tensor) -> None:
        """Keep the columns Long[B, n] of each row, in this order."""
        ...


@dataclass(slots=True)
class CacheStore:
    """What was read so far."""

    memory: KeyValueMemory | None
    """None for policies that keep nothing."""
    order: Tensor
    """Long[B, n]: the columns read, in the order in which they were."""
    lookback: int = 0
    """Columns left of a window that the network must also read: 1 where it predicts a column from the one before."""
    sure: int = 0
    """How many of them are still as they were read; each policy says what it counts."""


@dataclass(frozen=True, slots=True)
class Read:
    """One pass."""

    columns: Tensor
    """Long[B, F]: the columns to read, in this order, behind those that are kept."""
    kept: int
    """How many columns of the store stay."""
    rows: Tensor | None
    """Long[B, W]: where in `columns` the window's logits are found; None where only keys and values are wanted."""


Policy = Callable[[CacheStore, Canvas, Step], Sequence[Read]]


def nothing(store: CacheStore, canvas: Canvas, step: Step) -> Sequence[Read]:
    """Everything, in one pass."""
    return [_whole(store, canvas, step)]


@dataclass(frozen=True)
class Prefix:
    """Keys and values before the window stay for `every` steps (None: as long as the window lasts)."""

    every: int | None = None
    back: int = 0
    """Columns before the window that are read anew with it (2510.08666)."""
    seeded: bool = False
    """As in `Dual`."""

    def __call__(self, store: CacheStore, canvas: Canvas, step: Step) -> Sequence[Read]:
        """The pass of this step."""
        if _due(step, self.every):
            return [_whole(store, canvas, step)]
        before = max(self.back, 0 if self.seeded else store.lookback)
        kept = max(0, int(step.window.start.amin()) - before)
        return [Read(_all(canvas)[:, kept:], kept, _behind(step.window.columns() - kept, store.lookback))]


@dataclass(frozen=True)
class Dual:
    """Keys and values of everything but the window stay for `every` steps (None: as long as the window lasts)."""

    every: int | None = None
    back: int = 0
    ahead: int = 0
    """Columns before and after the window that are read anew with it (the vicinity of dInfer, 2510.08666)."""
    seeded: bool = False
    """The window's first column is known after its first step, so that nothing before it need be read again.

    For networks that predict a column from the one before it, as Fast-dLLM decodes Dream; needs `rule.Seeded`.
    """

    def __call__(self, store: CacheStore, canvas: Canvas, step: Step) -> Sequence[Read]:
        """The pass of this step; its columns are the window's and their neighbours'."""
        width, columns = canvas.tokens.shape[1], step.window.columns()
        before = max(self.back, 0 if self.seeded else store.lookback)
        start = (step.window.start - before).clamp_min(0)
        size = min(step.window.size + before + self.ahead, width)
        near = Span(start.clamp(max=width - size), size).columns()
        if _due(step, self.every):
            far = torch.ones_like(canvas.open).scatter(-1, near, False)
            order = torch.cat([_first(far, width - size), near], -1)
            return [Read(order, 0, _places(order, _behind(columns, store.lookback)))]
        return [Read(near, width - size, _behind(columns - near[:, :1], store.lookback))]


@dataclass(frozen=True)
class Delayed:
    """A column's keys and values stay once it was read decided; everything is read again every `every` steps.

    The store's `sure` columns are decided ones.  With `every` 1 nothing is approximate.
    """

    every: int = 8

    def __call__(self, store: CacheStore, canvas: Canvas, step: Step) -> Sequence[Read]:
        """The pass of this step: columns that are open or were written by the step before."""
        needed = canvas.open
        if store.lookback:
            needed = needed | torch.nn.functional.pad(needed[:, store.lookback :], (0, store.lookback))
        kept = 0 if step.k % self.every == 0 else store.sure
        if kept:
            # a column that was reopened is no longer as it was read
            stale = needed.gather(-1, store.order[:, :kept])
            kept = int(torch.where(stale, torch.arange(kept, device=stale.device), kept).amin())
        base = store.order[:, :kept]
        rest = torch.ones_like(needed).scatter(-1, base, False)
        fresh = _first(rest, needed.shape[1] - kept)
        fresh = fresh.gather(-1, needed.gather(-1, fresh).long().argsort(dim=-1, stable=True))
        store.sure = int((~needed).sum(-1).amin())
        return [Read(fresh, kept, _places(fresh, _behind(step.window.columns(), store.lookback)))]


@dataclass(frozen=True)
class FinishedBlocks:
    """Every block is read once more when it is finished, and never again; the store's `sure` columns are those.

    Exact for block-causal networks with windows at multiples of the block (`plan.multiples`).
    """

    block: int
    """The network's block; a window may be a part of one, and the whole block is then read with it."""
    fused: bool = True
    """Read a finished block together with the first step of the next one; otherwise in a pass of its own."""

    def __call__(self, store: CacheStore, canvas: Canvas, step: Step) -> Sequence[Read]:
        """The passes of this step: perhaps the blocks before the window's, and the window's."""
        at, done = int(step.window.start[0]), store.sure
        start = at - at % self.block
        end = min(-(-(at + step.window.size) // self.block) * self.block, canvas.tokens.shape[1])
        everything, window = _all(canvas), step.window.columns()
        store.sure = start
        begun = max(0, start - store.lookback)
        if done >= start or self.fused:
            begun = min(done, begun)
            return [Read(everything[:, begun:end], begun, _behind(window - begun, store.lookback))]
        last = Read(everything[:, begun:end], begun, _behind(window - begun, store.lookback))
        return [Read(everything[:, done:start], done, None), last]


@dataclass(frozen=True)
class UpToBlock:
    """Everything up to the end of the window's block in one pass: a block-causal network needs no more."""

    block: int

    def __call__(self, store: CacheStore, canvas: Canvas, step: Step) -> Sequence[Read]:
        """The pass of this step; rows share their windows."""
        end = -(-(int(step.window.start[0]) + step.window.size) // self.block) * self.block
        return [Read(_all(canvas)[:, :end], 0, _behind(step.window.columns(), store.lookback))]


@dataclass(frozen=True)
class Sorted:
    """Decided columns before open ones, for networks that see causally in that order (WeDLM, 2512.22737).

    With `keep`, the decided columns left of the first open one are read once: they only ever saw one another.
    """

    keep: bool = True

    def __call__(self, store: CacheStore, canvas: Canvas, step: Step) -> Sequence[Read]:
        """The pass of this step; rows share their windows."""
        end = int((step.window.start + step.window.size).amax())
        open, kept = canvas.open[:, :end], store.sure
        order = kept + open[:, kept:].long().argsort(dim=-1, stable=True)
        if self.keep:
            columns = torch.arange(end, device=open.device)
            store.sure = int(torch.where(open, columns, end).amin())
        return [Read(order, kept, _places(order, _behind(step.window.columns(), store.lookback)))]


def _due(step: Step, every: int | None) -> bool:
    return step.k == 0 or (every is not None and step.k % every == 0)


def _all(canvas: Canvas) -> Tensor:
    rows, width = canvas.tokens.shape
    return torch.arange(width, device=canvas.tokens.device).expand(rows, width)


def _whole(store: CacheStore, canvas: Canvas, step: Step) -> Read:
    return Read(_all(canvas), 0, _behind(step.window.columns(), store.lookback))


def _behind(rows: Tensor, lookback: int) -> Tensor:
    """Where a network that looks back says what it thinks of a column; nothing stands before the first."""
    return (rows - lookback).clamp_min(0) if lookback else rows


def _first(chosen: Tensor, count: int) -> Tensor:
    """Long[B, count]: the columns marked in Bool[B, L], left to right, `count` in every row."""
    return (~chosen).long().argsort(dim=-1, stable=True)[:, :count]


def _places(order: Tensor, columns: Tensor) -> Tensor:
    """Long[B, W]: where in `order` each column stands; 0 for those that are not in it, which are closed."""
    place = torch.zeros(
        order.shape[0], int(max(order.amax(), columns.amax())) + 1, dtype=torch.long, device=order.device
    )
    place.scatter_(-1, order, torch.arange(order.shape[1], device=order.device).expand_as(order))
    return place.gather(-1, columns)
