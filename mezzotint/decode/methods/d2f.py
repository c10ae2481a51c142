"""D2F, discrete diffusion forcing: a block begins before the last is finished (2508.09192; d3LLM, 2601.07568).

Blocks are counted from the end of the prompt, and a text ends, for the network, where its last begun block ends.  A new
block begins when the last one is decided to some share; until its predecessor is nearly finished it writes only what it
is sure of, and from then on at least one column in every pass.

D2F's networks see no block behind their own, so finished blocks are read once and the cache is exact.  d3LLM's see all:
a finished block is kept some passes later and read again now and then, and texts that decode in one batch share the
place up to which columns are kept.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from mezzotint.config import config
from mezzotint.decode.caches.policies import CacheStore, FinishedBlocks, Policy, Read
from mezzotint.decode.canvas import Canvas, Span, Step
from mezzotint.decode.generation import Generation
from mezzotint.decode.propose import NoiseSource, Propose, negative_entropy
from mezzotint.decode.reader import Reader, Visibility
from mezzotint.decode.run import MaskedModel, lay_out
from mezzotint.decode.shapers import Ban, tempered
from mezzotint.decode.stopping import confirmed
from mezzotint.errors import ConfigError
from mezzotint.masks import Mask


@config
class D2F:
    """When blocks begin, what they write, and what is read again."""

    block: int = Field(default=32, gt=0)
    add: float = Field(default=0.1, ge=0, le=1)
    """Share of the last block that is decided before the next one begins."""
    ready: float = Field(default=0.95, ge=0, le=1)
    """Share of its predecessor that is decided before a block must write something in every pass."""
    confidence: Literal["probability", "entropy"] = "probability"
    tau: float = 0.9
    """Columns surer than this are written; with entropies, minus the largest one in nats."""
    leading: bool = False
    """Of the blocks that must write something, only the first unfinished one has to."""
    causal: bool = True
    """Blocks do not see those behind them: for networks that were trained so."""
    most: int | None = Field(default=None, gt=0)
    """Unfinished blocks at most; null: no limit."""
    delay: int = Field(default=2, ge=0)
    every: int = Field(default=32, gt=0)
    """Without `causal`: a finished block is kept after `delay` more passes; all is read again every `every` passes."""
    temperature: float = Field(default=0.0, ge=0)
    top_p: float = Field(default=1.0, gt=0, le=1)

    def begin(
        self, model: MaskedModel, prompts: Sequence[Sequence[int]], length: int, seeds: Sequence[int] | None = None
    ) -> "D2FRun":
        """Continue every prompt by at most `length` tokens.

        Raises:
            ConfigError: a network with blocks of its own, which follow finished ones only.
            CanvasError: no prompt, or a length that is not positive.
        """
        if model.block is not None:
            raise ConfigError("this network's blocks follow finished ones: it cannot begin one before the last is done")
        return D2FRun(self, model, prompts, length, seeds)


class D2FRun(Generation):
    """One generation: iterating gives the canvas after each pass."""

    def __init__(
        self,
        how: D2F,
        model: MaskedModel,
        prompts: Sequence[Sequence[int]],
        length: int,
        seeds: Sequence[int] | None,
    ) -> None:
        self.how, self.model, self.length, self.stop = how, model, length, model.stop
        self.canvas, self.valid = lay_out(model, prompts, length, seeds)
        self.start = self.canvas.tokens.shape[1] - length
        self.begun = torch.ones_like(self.canvas.seed)
        policy: Policy = FinishedBlocks(1) if how.causal else DelayedBlocks(how.delay, how.every, self.start, how.block)
        sees: Visibility = (lambda before: behind_prompt(self.start, how.block, before)) if how.causal else model.sees
        self.reader = Reader(model.network, policy, sees)
        self.reads = self.reader.passes
        self.ban = Ban(model.never)
        self.propose: Propose = tempered(how.temperature, how.top_p)

    def steps(self) -> Iterator[Canvas]:
        k = 0
        while bool((live := self.canvas.open.any(-1) & ~confirmed(self.canvas, self.model.stop)).any()):
            self._pass(live, k)
            k += 1
            yield self.canvas

    def _pass(self, live: Tensor, k: int) -> None:
        canvas, how = self.canvas, self.how
        columns = torch.arange(canvas.tokens.shape[1], device=live.device)
        end = self.start + self.begun * how.block
        there = columns < end[:, None]
        self.reader.valid = there if self.valid is None else self.valid & there
        first = torch.where(canvas.open & live[:, None], columns, len(columns)).amin()
        low = self.start + (int(first) - self.start) // how.block * how.block
        size = min(int(torch.where(live, end, 0).amax()), len(columns)) - low
        window = Span(torch.full_like(self.begun, low), size)
        t = torch.ones(len(live), 1, device=live.device)
        step = Step(window, torch.zeros_like(self.begun), k, t, t, live)
        raw = self.ban.filtered(self.reader(canvas, step))
        tokens, score = self.propose(raw, ShiftedNoise(canvas.rng, low - self.start))
        score = negative_entropy(raw, tokens) if how.confidence == "entropy" else score
        here = slice(low, low + size)
        open = canvas.open[:, here] & there[:, here] & live[:, None]
        commit = self._commit(score, open, low)

        def put(x: Tensor, values: Tensor) -> Tensor:
            return torch.cat([x[:, :low], torch.where(commit, values.to(x.dtype), x[:, here]), x[:, low + size :]], -1)

        self.canvas = replace(
            canvas,
            tokens=put(canvas.tokens, tokens),
            open=put(canvas.open, torch.zeros_like(commit)),
            score=put(canvas.score, score),
            born=put(canvas.born, canvas.step[:, None].expand_as(commit)),
            step=canvas.step + live.to(canvas.step.dtype),
        )
        self._begin(live)

    def _commit(self, score: Tensor, open: Tensor, low: int) -> Tensor:
        """Bool[B, W]: what is sure, and the surest column of blocks that must write something."""
        how, skipped = self.how, (low - self.start) // self.how.block
        sure = open & (score > how.tau)
        mine = torch.arange(open.shape[1], device=open.device) // how.block
        groups = mine == torch.arange(int(mine[-1]) + 1, device=open.device)[:, None]
        inside = open[:, None] & groups
        share = self._shares()
        before = torch.cat([torch.ones_like(share[:, :1]), share[:, :-1]], -1)[:, skipped : skipped + len(groups)]
        must = (before >= how.ready) & inside.any(-1) & ~(sure[:, None] & groups).any(-1)
        if how.leading:
            must = must & (inside.any(-1).long().cumsum(-1) == 1)
        best = score[:, None].masked_fill(~inside, -torch.inf).argmax(-1)
        chosen = torch.zeros_like(inside).scatter(-1, best[..., None], must[..., None])
        return sure | (chosen & inside).any(1)

    def _shares(self) -> Tensor:
        """Float[B, n]: how much of each block is decided."""
        open = self.canvas.open[:, self.start :]
        blocks = -(-self.length // self.how.block)
        mine = (torch.arange(self.length, device=open.device) // self.how.block).expand_as(open)
        size = torch.zeros(len(open), blocks, device=open.device).scatter_add(-1, mine, torch.ones_like(open).float())
        return 1 - torch.zeros_like(size).scatter_add(-1, mine, open.float()) / size

    def _begin(self, live: Tensor) -> None:
        """Begin another block where the last is far enough; none behind an end token, which closes the text."""
        share = self._shares()
        ready = share.gather(-1, self.begun[:, None] - 1)[:, 0] >= self.how.add
        stop = torch.tensor(self.model.stop, dtype=torch.long, device=share.device)
        ended = (torch.isin(self.canvas.tokens, stop) & ~self.canvas.open & ~self.canvas.fixed).any(-1)
        more = live & ready & ~ended & (self.begun < share.shape[1])
        if self.how.most is not None:
            unfinished = (share < 1) & (torch.arange(share.shape[1], device=share.device) < self.begun[:, None])
            more = more & (unfinished.sum(-1) < self.how.most)
        self.begun = self.begun + more.long()


@dataclass(frozen=True)
class DelayedBlocks:
    """Finished blocks are kept some passes later, and everything is read again every `every` passes (d3LLM)."""

    delay: int
    every: int
    start: int
    """The column at which the first block begins."""
    block: int

    def __call__(self, store: CacheStore, canvas: Canvas, step: Step) -> Sequence[Read]:
        """The pass of this step; rows share their windows."""
        low, width = int(step.window.start[0]), canvas.tokens.shape[1]
        kept = 0 if step.k % self.every == 0 else min(store.sure, max(0, low - store.lookback))
        columns = torch.arange(width, device=canvas.tokens.device)
        old = canvas.fixed | (~canvas.open & (canvas.step[:, None] - canvas.born > self.delay))
        first = int(torch.where(old, width, columns).amin())
        settled = self.start + (first - self.start) // self.block * self.block if first > self.start else 0
        store.sure = min(settled, low)
        rows = (step.window.columns() - store.lookback).clamp_min(0) - kept
        return [Read(columns[kept : low + step.window.size].expand(len(canvas.seed), -1), kept, rows)]


@dataclass(frozen=True)
class ShiftedNoise:
    """The noise of columns from `offset` on, so that a column's draw does not depend on where a window begins."""

    noise: NoiseSource
    offset: int

    def uniform(self, shape: tuple[int, ...], device: torch.device | str | None = None) -> Tensor:
        """Float64 in (0, 1), Float[B, W]."""
        rows, width = shape
        return self.noise.uniform((rows, self.offset + width), device)[:, self.offset :]

    def fork(self, name: int) -> "ShiftedNoise":
        """An independent source."""
        return ShiftedNoise(self.noise.fork(name), self.offset)


def behind_prompt(start: int, block: int, before: int) -> Mask:
    """Columns before `start` see one another; blocks behind them see those, themselves and the blocks before.

    The first query stands behind `before` keys that were read earlier.
    """

    def group(column: Tensor) -> Tensor:
        return (column - start).div(block, rounding_mode="floor").clamp_min(-1)

    def mask(row: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return group(query + before) >= group(key)

    return mask
