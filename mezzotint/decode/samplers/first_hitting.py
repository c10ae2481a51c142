"""First-hitting sampler of masked diffusion: one column per step, at the time at which it is revealed (2409.02908).

The time of the next of n reveals is t u^(1/n) (sec. 4.1), so steps in which nothing happens are never taken, and the
text has the distribution of infinitely many small steps.  Block by block for networks that were trained on blocks
(BD3LM, 2503.09573, Alg. 2); windows begin at multiples of the block.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from mezzotint.decode.canvas import Canvas, Span, Step
from mezzotint.decode.plan import Plan, Steps
from mezzotint.decode.propose import NoiseSource
from mezzotint.decode.rule import Rule
from mezzotint.decode.samplers.redraw import drawn, noisy
from mezzotint.errors import CanvasError
from mezzotint.rng import Rng, draw

_HIT, _PICK = 4, 5


@dataclass(frozen=True)
class FirstHitting:
    """The plan: one column per step, as many steps as there are open columns; its rule is `revealing`."""

    size: int
    noise: Callable[[Canvas], NoiseSource] = lambda canvas: canvas.rng.fork(_HIT)
    """Where the times of a canvas come from: Float[B, columns] in (0, 1)."""

    def __call__(self, canvas: Canvas) -> Steps:
        times, taken = self.noise(canvas).uniform(tuple(canvas.open.shape), canvas.open.device), 0
        for window, opened in _windows(canvas, self.size):
            t = torch.ones(len(opened), 1, dtype=torch.float64, device=opened.device)
            for k in range(int(opened.amax())):
                left = (opened - k).clamp_min(1)[:, None]
                t = t * times[:, taken, None] ** (1 / left)
                yield Step(window, torch.ones_like(opened), k, t, t)
                taken += 1


def one_by_one(size: int, steps: int) -> Plan:
    """First hitting in windows of `size` columns, whatever number of steps is asked for."""
    return FirstHitting(size)


def revealing(mask_id: int, predict: Callable[[Tensor, Tensor], Tensor]) -> Rule:
    """The rule: one masked column of the window, each as likely as the other, becomes a draw.

    Args:
        mask_id: the id of [MASK].
        predict: (logits Float[B, W, V], x_t Long[B, W]) -> p(x_0 | x_t), Float[B, W, V].
    """

    def rule(raw: Tensor, canvas: Canvas, step: Step, rng: Rng) -> Canvas:
        x_t = noisy(canvas, step, mask_id)
        p0 = predict(raw, x_t)
        order = rng.fork(_PICK).uniform(tuple(x_t.shape), x_t.device).masked_fill(x_t != mask_id, -1.0)
        chosen = torch.arange(x_t.shape[1], device=x_t.device) == order.argmax(-1, keepdim=True)
        x_s = torch.where(chosen & (x_t == mask_id), draw(p0, rng), x_t)
        return drawn(canvas, step, x_s, mask_id, p0)

    return rule


def _windows(canvas: Canvas, size: int) -> Iterator[tuple[Span, Tensor]]:
    """The blocks in which some row has something open, and how many columns Long[B]."""
    rows, width = canvas.open.shape
    if size < 1 or width % size:
        raise CanvasError(f"cannot write {width} columns in blocks of {size}: use a whole number of blocks")
    for start in range(0, width, size):
        opened = canvas.open[:, start : start + size].sum(-1)
        if int(opened.amax()):
            yield Span(torch.full((rows,), start, device=canvas.open.device), size), opened
