"""Prompts in, texts out: canvases of one width, the loop over them, and what was written."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial

import torch
from torch import Tensor

from mezzotint.decode.caches.policies import Policy, nothing
from mezzotint.decode.canvas import Canvas, Places, Step, infill
from mezzotint.decode.generation import Generation, Written
from mezzotint.decode.loop import decode
from mezzotint.decode.plan import Plan
from mezzotint.decode.reader import ClassifierFreeGuidance, Network, Reader, Visibility, full
from mezzotint.decode.rule import Rule
from mezzotint.decode.stopping import Until
from mezzotint.errors import CanvasError
from mezzotint.masks import block_causal
from mezzotint.rng import Rng


@dataclass(frozen=True)
class MaskedModel:
    """What decoding must know of a network; ids and blocks come from its checkpoint."""

    network: Network
    mask_id: int
    vocab: int
    """Rows of its head."""
    stop: tuple[int, ...] = ()
    """Ids that end a text."""
    block: int | None = None
    """Columns per block of a block-causal network; None: every column sees every other."""
    pad_id: int | None = None
    """Stands in columns that hold nothing; None: the first stop id, or the mask."""
    tokens: int | None = None
    """Ids that stand for something; those from here on are padding of the vocabulary.  None: all."""
    device: torch.device | str = "cpu"
    """Where the network is."""
    pattern: Visibility | None = None
    """Who sees whom; None: everybody, or block by block."""
    edit_ids: tuple[int, int] | None = None
    """Ids that delete a column and that open a mask before it; None for networks that do neither."""
    stretch_ids: tuple[int, int] | None = None
    """Ids that stand for two masks and for nothing; None for networks whose columns stay as they are."""
    verifier: Network | None = None
    """A causal network of the same vocabulary that has the last word, for `speculative.Speculative`."""

    @property
    def sees(self) -> Visibility:
        """Who sees whom."""
        return self.pattern or (full if self.block is None else partial(block_causal, self.block))

    @property
    def words(self) -> int:
        """Ids that stand for something; those from here on do not."""
        return self.tokens or self.vocab

    @cached_property
    def never(self) -> Tensor:
        """Bool[V]: ids that are never written, the mask and the padding of the vocabulary."""
        return self.among(self.mask_id) | self.padding

    @cached_property
    def padding(self) -> Tensor:
        """Bool[V]: ids that stand for nothing."""
        return torch.arange(self.vocab, device=self.device) >= self.words

    def among(self, *ids: int) -> Tensor:
        """Bool[V]: these ids."""
        wanted = torch.tensor(ids, dtype=torch.long, device=self.device)
        return torch.isin(torch.arange(self.vocab, device=self.device), wanted)

    def prior(self, shape: tuple[int, int], device: torch.device | str | None, rng: Rng) -> Tensor:
        """Long[B, L]: masks."""
        return torch.full(shape, self.mask_id, device=device)


@dataclass(frozen=True)
class Decoding:
    """How a text is written."""

    rule: Rule
    plan: Plan
    policy: Policy = nothing
    guidance: float = 0.0
    halt: bool = True
    """Leave a row at its first confirmed end."""
    settled: bool = False
    """Look for an end between windows only."""
    focus: bool = False
    """Ask for logits of open columns only, for rules that look at nothing else and not at distances."""


def generate(
    model: MaskedModel,
    prompts: Sequence[Sequence[int]],
    length: int,
    decoding: Decoding,
    seeds: Sequence[int] | None = None,
) -> Written:
    """Continue every prompt by `length` tokens, or until it ends.

    Raises:
        CanvasError: no prompt, or a length that is not positive.
    """
    run = Run(model, prompts, length, decoding, seeds)
    for _ in run:
        pass
    return run.result()


class Run(Generation):
    """One generation, step by step: iterating gives the canvas after each step."""

    def __init__(
        self,
        model: MaskedModel,
        prompts: Sequence[Sequence[int | None]],
        length: int,
        decoding: Decoding,
        seeds: Sequence[int] | None = None,
    ) -> None:
        """`prompts` may have holes, None, which are written too; `length` may be 0 then."""
        self.model, self.length, self.decoding = model, length, decoding
        self.canvas, self.valid = lay_out(model, prompts, length, seeds)
        blind = torch.tensor([model.mask_id], device=model.device)
        guidance = ClassifierFreeGuidance(decoding.guidance, blind) if decoding.guidance else None
        self.reader = Reader(model.network, decoding.policy, model.sees, self.valid, guidance)
        self.reads = self.reader.passes
        self.stop = model.stop if decoding.halt else ()
        # rules that look for an end between windows only do so because they change decided columns of a window
        self.final = 0 if decoding.settled else None

    def steps(self) -> Iterator[Canvas]:
        plan = self.decoding.plan
        if self.stop:
            plan = Until(plan, self.stop, self.decoding.settled)
        if self.decoding.focus:
            yield from self._focused(plan)
            return
        for canvas in decode(self.canvas, self._read, self.decoding.rule, plan):
            self.canvas = canvas
            yield canvas

    def _read(self, canvas: Canvas, step: Step) -> Tensor:
        if self.final is not None:
            self.final = int(step.window.start.amin())
        return self.reader(canvas, step)

    def _focused(self, plan: Plan) -> Iterator[Canvas]:
        """The loop of `decode`, the rule seeing the window's open columns only."""
        steps = plan(self.canvas)
        step = next(steps, None)
        while step is not None:
            columns = step.window.columns()
            only = undecided(self.canvas.open.gather(-1, columns))
            raw = self.reader(self.canvas, step, only)
            seen = replace(step, window=Places(step.window.start, columns.gather(-1, only)))
            self.canvas = self.decoding.rule(raw, self.canvas, seen, self.canvas.rng)
            yield self.canvas
            try:
                step = steps.send(self.canvas)
            except StopIteration:
                return


def undecided(open: Tensor) -> Tensor:
    """Long[B, w]: where the open ones of Bool[B, W] columns are, behind them closed ones in rows that have fewer."""
    most = max(1, int(open.sum(-1).amax()))
    return open.argsort(dim=-1, descending=True, stable=True)[:, :most]


def lay_out(
    model: MaskedModel, prompts: Sequence[Sequence[int | None]], length: int, seeds: Sequence[int] | None = None
) -> tuple[Canvas, Tensor | None]:
    """Canvases that end together, padded on the left, and Bool[B, L] of what is not padding; None where nothing is.

    Blocks of a block-causal network are counted from each text's own beginning: rows are padded by whole blocks, and
    written to the end of the last one.

    Raises:
        CanvasError: no prompt, or a length that is not positive although a prompt has no hole.
    """
    if length < (not all(None in prompt for prompt in prompts)):
        raise CanvasError(f"cannot write {length} tokens: ask for at least 1")
    if not prompts:
        raise CanvasError("cannot write without a prompt: give at least one, which may be empty")
    block = model.block
    open = [length + (0 if block is None else -(len(prompt) + length) % block) for prompt in prompts]
    width = max(len(prompt) + count for prompt, count in zip(prompts, open, strict=True))
    blank = model.pad_id if model.pad_id is not None else (*model.stop, model.mask_id)[0]
    rows = [
        [*[blank] * (width - len(prompt) - count), *prompt, *[None] * count]
        for prompt, count in zip(prompts, open, strict=True)
    ]
    padding = torch.tensor([width - len(prompt) - count for prompt, count in zip(prompts, open, strict=True)])
    valid = torch.arange(width) >= padding[:, None]
    canvas = infill(rows, model.prior, seeds).to(model.device)
    return canvas, None if bool(valid.all()) else valid.to(model.device)
