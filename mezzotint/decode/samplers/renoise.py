"""Renoising sampler of uniform noise: draw every column, keep the sure ones, renoise the others (DiffusionGemma).

The canvas is uniform noise, nothing in it is ever decided before the whole window is, and what is written in the end is
not the canvas but the network's first choice for every column.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from mezzotint.decode.canvas import Canvas, Prior, Step
from mezzotint.decode.plan import Place, Steps, even, following
from mezzotint.decode.propose import Propose, first_largest, negative_entropy
from mezzotint.decode.select import Select
from mezzotint.errors import CanvasError
from mezzotint.rng import Rng

_PRIOR = 3


@dataclass(frozen=True)
class Renoise:
    """One step: draw at a falling temperature, accept what the entropy bound allows, renew the rest.

    A row's window is finished, and its first choices are written, in the last step, or when they have been the same for
    `stable` further steps while the mean entropy is below `calm`.

    Notes of the canvas: the last `stable` first choices, Long[B, stable, L], newest first, -1 before there were any;
    the tempered logits Float[B, W, V] of the last step, for networks that look at their own last prediction; and
    whether there were any in this window, Bool[B].
    """

    prior: Prior
    select: Select
    """Needs scores that are minus an entropy: `EntropyBound`."""
    propose: Propose
    hottest: float = 0.8
    coldest: float = 0.4
    stable: int = 1
    calm: float = 0.005

    def __call__(self, raw: Tensor, canvas: Canvas, step: Step, rng: Rng) -> Canvas:
        """The canvas after one step.

        Args:
            raw: Float[B, W, V], logits of the window, soft-capped by the network.
            canvas: open columns are those of windows not finished yet.
            step: `t` is the share of steps left, this one included; a budget of the whole window finishes it.
            rng: the request's noise.
        """
        columns = step.window.columns()
        open, held = canvas.open.gather(-1, columns), canvas.tokens.gather(-1, columns)
        logits = raw / (self.coldest + (self.hottest - self.coldest) * step.t[..., None]).to(raw.dtype)
        drawn, _ = self.propose(logits, rng)
        score, best = negative_entropy(logits, drawn), first_largest(logits)
        kept = self.select(score, torch.ones_like(open), step.budget)
        noise = self.prior((columns.shape[0], canvas.tokens.shape[1]), columns.device, rng.fork(_PRIOR))

        live = open.any(-1) if step.live is None else open.any(-1) & step.live
        choices, before, _ = notes(canvas, logits, self.stable, step.k == 0)
        mine = choices.gather(-1, columns[:, None].expand(-1, self.stable, -1))
        calm = (mine == best[:, None]).all(-1).all(-1) & (-score.mean(-1) < self.calm)
        over = live & (calm | (step.budget >= step.window.size))

        now = torch.where(over[:, None], best, torch.where(kept, drawn, noise.gather(-1, columns)))
        writing = open & live[:, None]
        seen = torch.cat([best[:, None], mine[:, :-1]], 1)
        seen = torch.where(live[:, None, None], seen, mine)
        wide = columns[:, None].expand(-1, self.stable, -1)
        written = writing & over[:, None]
        return replace(
            canvas,
            tokens=canvas.tokens.scatter(-1, columns, torch.where(writing, now, held)),
            open=canvas.open.scatter(-1, columns, open & ~over[:, None]),
            score=canvas.score.scatter(
                -1, columns, torch.where(written, score.float(), canvas.score.gather(-1, columns))
            ),
            born=canvas.born.scatter(
                -1, columns, torch.where(written, canvas.step[:, None], canvas.born.gather(-1, columns))
            ),
            step=canvas.step + live.to(canvas.step.dtype),
            notes=(
                choices.scatter(-1, wide, seen),
                torch.where(live[:, None, None], logits, before),
                torch.ones_like(live),
            ),
        )


def notes(canvas: Canvas, like: Tensor, stable: int, first: bool) -> tuple[Tensor, Tensor, Tensor]:
    """The notes that `Renoise` left on the canvas; blank ones at the beginning of a window.

    Choices of the last steps Long[B, stable, L], logits Float[B, W, V], and whether there are any, Bool[B].
    """
    if canvas.notes and not first:
        choices, logits, previous = canvas.notes
        return choices, logits, previous
    rows, width = canvas.tokens.shape
    blank = torch.full((rows, stable, width), -1, device=like.device)
    return blank, torch.zeros_like(like), torch.zeros(rows, dtype=torch.bool, device=like.device)


@dataclass(frozen=True)
class Canvases:
    """Windows of `size` columns, each in at most `steps` steps, the last of which finishes it.

    Raises:
        CanvasError: a size or a number of steps below one, when the plan is made.
    """

    size: int
    steps: int
    place: Place = following

    def __post_init__(self) -> None:
        if self.size < 1 or self.steps < 1:
            raise CanvasError(f"cannot write canvases of {self.size} tokens in {self.steps} steps: ask for at least 1")

    def __call__(self, canvas: Canvas) -> Steps:
        rows = len(canvas.seed)
        for window in self.place(canvas, self.size):
            for k in range(self.steps):
                budget = torch.full((rows,), window.size if k == self.steps - 1 else 1, device=canvas.open.device)
                t, s = (torch.full((rows, 1), even(i, self.steps), device=budget.device) for i in (k, k + 1))
                after = yield Step(window, budget, k, t, s)
                if after is not None and not bool(after.open.gather(-1, window.columns()).any()):
                    break
