"""DiffusionGemma: text written canvas by canvas, each denoised from uniform tokens behind what was read before."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from pydantic import Field
from torch import Tensor

from mezzotint.config import config, from_dict, to_dict
from mezzotint.decode.canvas import Canvas, Prior, Step, infill
from mezzotint.decode.generation import Generation
from mezzotint.decode.loop import decode
from mezzotint.decode.rule import Rule
from mezzotint.decode.samplers.renoise import Canvases, Renoise
from mezzotint.decode.select import EntropyBound
from mezzotint.decode.shapers import tempered
from mezzotint.decode.stopping import Until
from mezzotint.errors import CanvasError
from mezzotint.rng import Rng

_NAMES = {
    "max_denoising_steps": "steps",
    "entropy_bound": "bound",
    "t_max": "hottest",
    "t_min": "coldest",
    "stability_threshold": "stable",
    "confidence_threshold": "calm",
}
"""As generation_config.json calls the fields."""


class CanvasNetwork(Protocol):
    """Reads text once, and denoises canvases behind it."""

    def read(self, tokens: Tensor, cache: Any, valid: Tensor | None = None) -> Tensor:
        """Keep Long[B, N] in the cache; `valid` is Bool[B, S + N]."""
        ...

    def memory(self, rows: int, columns: int) -> Any:
        """A cache for so many columns; its `length` says how many it holds."""
        ...

    def __call__(
        self, canvas: Tensor, cache: Any, before: Tensor | None, previous: Tensor | None, valid: Tensor | None
    ) -> Tensor:
        """Logits Float[B, W, V] of a canvas, given the tempered logits of the step before."""
        ...


@config
class UniformCanvases:
    """How to write a canvas; checkpoints name their own numbers."""

    canvas: int | None = Field(default=None, gt=0)
    """Columns of a canvas; null: the network's own."""
    steps: int = Field(default=48, gt=0)
    """Steps for a canvas at most."""
    bound: float = Field(default=0.1, ge=0)
    """Nats by which columns that are kept together may depend on each other."""
    hottest: float = Field(default=0.8, gt=0)
    coldest: float = Field(default=0.4, gt=0)
    """Temperatures at the beginning and behind the end of the steps."""
    temperature: float | None = Field(default=None, gt=0)
    """One temperature for all steps instead."""
    top_p: float = Field(default=1.0, gt=0, le=1)
    stable: int = Field(default=1, gt=0)
    """Steps for which first choices must not change before a canvas is left early."""
    calm: float = Field(default=0.005, ge=0)
    """Mean entropy in nats below which a canvas may be left early."""
    halt: bool = True

    def rule(self, vocab: int) -> Rule:
        """The step that these numbers describe."""
        return Renoise(
            uniform_of(vocab),
            EntropyBound(self.bound),
            tempered(1.0, self.top_p),
            self.temperature or self.hottest,
            self.temperature or self.coldest,
            self.stable,
            self.calm,
        )

    def begin(
        self,
        model: "CanvasModel",
        prompts: Sequence[Sequence[int]],
        length: int,
        seeds: Sequence[int] | None = None,
    ) -> "CanvasRun":
        """Continue every prompt by at most `length` tokens, written in whole canvases.

        Raises:
            CanvasError: no prompt, or a length that is not positive.
        """
        return CanvasRun(self, model, prompts, length, seeds)

    def with_numbers_of(self, generation: Mapping[str, Any]) -> "UniformCanvases":
        """With the numbers of a checkpoint's generation_config.json where it names them.

        Raises:
            ConfigError: a number that cannot be.
        """
        flat = {**generation, **(generation.get("sampler_config") or {})}
        found = {field: flat[name] for name, field in _NAMES.items() if flat.get(name) is not None}
        return from_dict(UniformCanvases, {**to_dict(self), **found})


@dataclass
class CanvasReader:
    """The network over one batch: (canvas, step) -> logits Float[B, W, V], after reading what stands before it."""

    network: CanvasNetwork
    valid: Tensor | None = None
    """Bool[B, L]: columns that are not padding; None is all."""
    passes: list[int] = field(default_factory=list)
    """Columns of each canvas pass; passes that only read are not in it."""
    cache: Any = None

    def __call__(self, canvas: Canvas, step: Step) -> Tensor:
        start, columns = int(step.window.start[0]), step.window.columns()
        if self.cache is None:
            self.cache = self.network.memory(*canvas.tokens.shape)
        done = self.cache.length
        if done < start:
            seen = None if self.valid is None else self.valid[:, :start]
            self.network.read(canvas.tokens[:, done:start], self.cache, seen)
        before = previous = None
        if canvas.notes and step.k:
            _, before, previous = canvas.notes
        self.passes.append(step.window.size)
        seen = None if self.valid is None else self.valid[:, :start]
        return self.network(canvas.tokens.gather(-1, columns), self.cache, before, previous, seen)


@dataclass(frozen=True)
class CanvasModel:
    """What decoding must know of such a network."""

    network: CanvasNetwork
    vocab: int
    stop: tuple[int, ...] = ()
    pad_id: int = 0
    device: torch.device | str = "cpu"
    canvas: int = 256
    """Columns of a canvas, as the network was trained."""


class CanvasRun(Generation):
    """One generation, step by step: iterating gives the canvas after each step."""

    def __init__(
        self,
        how: UniformCanvases,
        model: CanvasModel,
        prompts: Sequence[Sequence[int]],
        length: int,
        seeds: Sequence[int] | None,
    ) -> None:
        self.how, self.model, self.length = how, model, length
        self.size = how.canvas or model.canvas
        self.canvas, self.valid = lay_out(model, prompts, length, self.size, seeds)
        self.reader = CanvasReader(model.network, self.valid)
        self.stop = model.stop if how.halt else ()
        self.reads, self.final = self.reader.passes, 0

    def steps(self) -> Iterator[Canvas]:
        plan = Until(Canvases(self.size, self.how.steps), self.stop, settled=True)
        for canvas in decode(self.canvas, self._read, self.how.rule(self.model.vocab), plan):
            self.canvas = canvas
            yield canvas

    def _read(self, canvas: Canvas, step: Step) -> Tensor:
        self.final = int(step.window.start.amin())
        return self.reader(canvas, step)


def lay_out(
    model: CanvasModel,
    prompts: Sequence[Sequence[int]],
    length: int,
    size: int,
    seeds: Sequence[int] | None = None,
) -> tuple[Canvas, Tensor | None]:
    """Canvases behind prompts that end together, and Bool[B, L] of what is not padding; None where nothing is.

    Raises:
        CanvasError: no prompt, or a length that is not positive.
    """
    if length < 1 or not prompts:
        raise CanvasError(f"cannot write {length} tokens behind {len(prompts)} prompts: ask for at least 1 of each")
    longest, whole = max(map(len, prompts)), -(-length // size) * size
    padding = [longest - len(prompt) for prompt in prompts]
    rows = [[*[model.pad_id] * blank, *prompt, *[None] * whole] for blank, prompt in zip(padding, prompts, strict=True)]
    canvas = infill(rows, uniform_of(model.vocab), seeds)
    valid = torch.arange(longest + whole) >= torch.tensor(padding)[:, None]
    return canvas.to(model.device), None if bool(valid.all()) else valid.to(model.device)


def uniform_of(vocab: int) -> Prior:
    """Noise that is any token with equal chance."""

    def prior(shape: tuple[int, int], device: torch.device | str | None, rng: Rng) -> Tensor:
        return (rng.uniform(shape, device) * vocab).long()

    return prior
