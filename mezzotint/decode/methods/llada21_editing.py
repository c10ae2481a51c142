"""LLaDA2.1's editing: written tokens of a block are overwritten until a pass changes none of them.

Its rule is `Unmask(edit=Overwrite(tau))`.
"""

from collections.abc import Generator
from dataclasses import dataclass

import torch
from torch import Tensor

from mezzotint.decode.canvas import Canvas, Span, Step
from mezzotint.decode.plan import Place, Steps, even, following
from mezzotint.errors import CanvasError


@dataclass(frozen=True)
class EditedBlocks:
    """Windows of `size` columns; each is done after a pass that met no open column and changed nothing.

    Passes that meet no open column are at most `posts`, since edits may go round in circles.  A row that is done waits
    as it is.  It needs the canvas after each step, to know when to stop.

    Raises:
        CanvasError: a size or a number of columns below one, when the plan is made.
    """

    size: int
    posts: int = 16
    least: int = 1
    """Columns to commit in a pass at least."""
    place: Place = following

    def __post_init__(self) -> None:
        if self.size < 1 or self.least < 1:
            raise CanvasError(f"cannot write {self.least} of {self.size} columns at a time: ask for at least 1")

    def __call__(self, canvas: Canvas) -> Steps:
        for window in self.place(canvas, self.size):
            columns = window.columns()
            live = canvas.open.gather(-1, columns).any(-1)
            if bool(live.any()):
                canvas = yield from self._window(canvas, window, columns, live)

    def _window(
        self, canvas: Canvas, window: Span, columns: Tensor, live: Tensor
    ) -> Generator[Step, Canvas | None, Canvas]:
        budget = torch.full_like(window.start, self.least)
        posts, k = torch.zeros_like(budget), 0
        while True:
            filled = ~canvas.open.gather(-1, columns).any(-1)
            posts = posts + filled.long()
            live = live & (posts <= self.posts)
            if not bool(live.any()):
                return canvas
            t, s = (torch.full((len(budget), 1), even(min(i, window.size), window.size)) for i in (k, k + 1))
            after = yield Step(window, budget, k, t.to(budget.device), s.to(budget.device), live)
            if after is None:
                raise CanvasError("a plan that edits needs each step's canvas: use decode.loop.decode")
            changed = (after.tokens != canvas.tokens).gather(-1, columns).any(-1)
            live = live & ~(filled & ~changed)
            canvas, k = after, k + 1
