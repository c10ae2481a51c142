"""Canvases of vectors: how they begin, how a network reads them, and what their steps note down."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from mezzotint.decode.canvas import Canvas, Step, infill
from mezzotint.decode.loop import Denoise
from mezzotint.decode.rule import Rule
from mezzotint.errors import CanvasError
from mezzotint.layouts import Full, Layout
from mezzotint.processes.gaussian import Gaussian
from mezzotint.rng import Rng

Clock = Callable[[Canvas, Step], Tensor]
"""Canvas and step -> Float[B, 1 or L], the times that the network is told."""


def begin(rows: Sequence[Sequence[int | None]], process: Gaussian, seeds: Sequence[int] | None = None) -> Canvas:
    """A canvas whose open columns, the Nones, hold noise, and whose given ones hold their embeddings.

    Raises:
        CanvasError: as `decode.canvas.infill`.
    """
    return with_noise(infill(rows, _nothing, seeds), process)


def with_noise(canvas: Canvas, process: Gaussian) -> Canvas:
    """A canvas of tokens as one of vectors; what stood in its open columns is forgotten."""
    noise = process.prior((canvas.tokens.shape[0], canvas.tokens.shape[1]), canvas.tokens.device, Rng(canvas.seed, -1))
    latent = process.hold(noise, canvas.tokens, ~canvas.open).detach()
    shown = torch.where(canvas.open, process.round(latent).argmax(-1), canvas.tokens)
    return replace(canvas, tokens=shown, latent=latent)


def of_length(rows: Sequence[Sequence[int | None]], length: int, end: int, pad: int) -> list[list[int | None]]:
    """The rows with an `end` token given at column `length` and `pad` behind it: the length is then exact.

    The texts' own end, where training shows one, is thereby placed; this is infilling (2205.14217, sec. 5.2).

    Raises:
        CanvasError: a row without that column.
    """
    found: list[list[int | None]] = []
    for row in rows:
        if not 0 <= length < len(row):
            raise CanvasError(f"cannot end a text after {length} tokens on a canvas of {len(row)}: ask for less")
        found.append([*row[:length], end, *[pad] * (len(row) - length - 1)])
    return found


def own_times(canvas: Canvas, step: Step) -> Tensor:
    """Open columns are at the step's time, all others at 0: as `objectives.embedding_denoising` trains; Float[B, L]."""
    return torch.where(canvas.open, step.t, torch.zeros_like(step.t))


def one_time(canvas: Canvas, step: Step) -> Tensor:
    """All columns at the step's time, Float[B, 1]: infilling by a network that never saw conditions (Diffusion-LM)."""
    return step.t


def reading(denoiser: Any, layout: Layout = Full(), clock: Clock = own_times) -> Denoise:  # noqa: B008 - without state
    """Asks a network on vectors about a canvas; noted estimates, where there are any, stand behind the vectors."""

    def denoise(canvas: Canvas, step: Step) -> Tensor:
        z = vectors(canvas)
        x = torch.cat([z, *canvas.notes], -1)
        raw = layout.extract(denoiser(layout.arrange(x, canvas.tokens), clock(canvas, step).to(z.dtype)))
        places = step.window.columns()[..., None].expand(-1, -1, raw.shape[-1])
        return raw.gather(1, places)

    return denoise


@dataclass(frozen=True)
class Noting:
    """A rule whose canvas carries the network's last answers, Float[B, L, E], to be read in the next step."""

    rule: Rule

    def __call__(self, raw: Tensor, canvas: Canvas, step: Step, rng: Rng) -> Canvas:
        """The rule's canvas, with one note."""
        last = canvas.notes[0] if canvas.notes else torch.zeros_like(vectors(canvas))
        places = step.window.columns()[..., None].expand(-1, -1, raw.shape[-1])
        return replace(self.rule(raw, canvas, step, rng), notes=(last.scatter(1, places, raw.to(last.dtype)),))


def unread(canvas: Canvas) -> Canvas:
    """The canvas with an estimate of zeros: what a self-conditioned network reads in its first step."""
    return replace(canvas, notes=(torch.zeros_like(vectors(canvas)),))


def vectors(canvas: Canvas) -> Tensor:
    """Float[B, L, E] of a canvas.

    Raises:
        CanvasError: it holds none.
    """
    if canvas.latent is None:
        raise CanvasError("the canvas holds tokens only: lay it out with decode.latent.begin for families of vectors")
    return canvas.latent


def _nothing(shape: tuple[int, int], device: torch.device | str | None, rng: Rng) -> Tensor:
    return torch.zeros(shape, dtype=torch.long, device=device)
