"""Samplers that walk a grid of times: every open column takes the family's own step from t to s."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from mezzotint.decode.canvas import Canvas, Step
from mezzotint.decode.propose import Score
from mezzotint.rng import Rng

Update = Callable[[Tensor, Tensor, Tensor, Tensor, Rng], Tensor]
"""(raw Float[B, W, *], x_t, t Float[B, 1], s Float[B, 1], rng) -> x_s; x is Long[B, W] or Float[B, W, E]."""
Rounding = Callable[[Tensor], Tensor]
"""Float[B, W, E] -> Float[B, W, V]: log-probabilities of the tokens that vectors stand for."""


@dataclass(frozen=True)
class TimeGrid:
    """`update` as a decoding rule; fixed columns keep their value, all columns of a window close when s reaches 0."""

    update: Update
    score: Score | None = None
    """(raw, tokens) -> Float[B, W], the confidence to show; without one every written column has 1."""

    def __call__(self, raw: Tensor, canvas: Canvas, step: Step, rng: Rng) -> Canvas:
        """The canvas one step of the grid later; raw is the network's Float[B, W, *], see `Update`."""
        columns = step.window.columns()
        open, held = canvas.open.gather(-1, columns), canvas.tokens.gather(-1, columns)
        tokens = torch.where(open, self.update(raw, held, step.t, step.s, rng), held)
        score = torch.ones_like(tokens, dtype=canvas.score.dtype) if self.score is None else self.score(raw, tokens)
        return _written(canvas, columns, tokens, score, step)


@dataclass(frozen=True)
class LatentGrid:
    """The same for families of vectors: `canvas.latent` moves, and `canvas.tokens` shows what it rounds to."""

    update: Update
    round: Rounding

    def __call__(self, raw: Tensor, canvas: Canvas, step: Step, rng: Rng) -> Canvas:
        """The canvas one step of the grid later; `raw` is Float[B, W, E]."""
        columns, latent = step.window.columns(), canvas.latent
        assert latent is not None, "the canvas holds no vectors: give it the latent noise of the family's process"
        places = columns[..., None].expand(-1, -1, latent.shape[-1])
        open, held = canvas.open.gather(-1, columns), latent.gather(1, places)
        moved = torch.where(open[..., None], self.update(raw, held, step.t, step.s, rng), held)
        best = self.round(moved).max(-1)
        tokens = torch.where(open, best.indices, canvas.tokens.gather(-1, columns))
        after = _written(canvas, columns, tokens, best.values.exp(), step)
        return replace(after, latent=latent.scatter(1, places, moved))


def _written(canvas: Canvas, columns: Tensor, tokens: Tensor, score: Tensor, step: Step) -> Canvas:
    open = canvas.open.gather(-1, columns)
    changed = open & (tokens != canvas.tokens.gather(-1, columns))
    born = torch.where(changed, canvas.step[:, None], canvas.born.gather(-1, columns))
    shown = torch.where(open, score.to(canvas.score.dtype), canvas.score.gather(-1, columns))
    # a row that is done waits for its neighbours, and its noise waits with it
    return replace(
        canvas,
        tokens=canvas.tokens.scatter(-1, columns, tokens),
        open=canvas.open.scatter(-1, columns, open & (step.s > 0)),
        score=canvas.score.scatter(-1, columns, shown),
        born=canvas.born.scatter(-1, columns, born),
        step=canvas.step + open.any(-1).to(canvas.step.dtype),
    )
