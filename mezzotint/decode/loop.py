"""Decode a canvas: for every step of the plan, denoise its window and apply the rule."""

from collections.abc import Callable, Iterator

from torch import Tensor

from mezzotint.decode.canvas import Canvas, Step
from mezzotint.decode.plan import Plan
from mezzotint.decode.rule import Rule

Denoise = Callable[[Canvas, Step], Tensor]
"""The canvas and a step -> raw Float[B, W, V] for the step's window."""


def decode(canvas: Canvas, denoise: Denoise, rule: Rule, plan: Plan) -> Iterator[Canvas]:
    """The canvas after each step."""
    steps = plan(canvas)
    step = next(steps, None)
    while step is not None:
        canvas = rule(denoise(canvas, step), canvas, step, canvas.rng)
        yield canvas
        try:
            step = steps.send(canvas)
        except StopIteration:
            return
