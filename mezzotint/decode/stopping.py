"""When a text is finished before its canvas is full."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from mezzotint.decode.canvas import Canvas
from mezzotint.decode.plan import Plan, Steps


@dataclass(frozen=True)
class Until:
    """Another plan, left when every row has a confirmed end: an end token with nothing undecided before it.

    An end token behind an open column says nothing yet, and one that was given ends nothing.  A row that has ended
    waits as it is, so its text does not depend on how long the others take.
    """

    plan: Plan
    stop: tuple[int, ...]
    """Ids that end a text."""
    settled: bool = False
    """Look only between windows, for rules that may still change a decided column of the window."""

    def __call__(self, canvas: Canvas) -> Steps:
        """The steps of the plan, `live` without the rows that have ended."""
        steps = self.plan(canvas)
        step = next(steps, None)
        over = torch.zeros_like(canvas.seed, dtype=torch.bool)
        ended = over
        while step is not None:
            if not self.settled or step.k == 0:
                over = ended
                if bool(over.all()):
                    return
            live = ~over if step.live is None else step.live & ~over
            after = yield replace(step, live=live)
            if after is None:
                step = next(steps, None)
                continue
            ended = over | confirmed(after, self.stop)
            if not self.settled and bool(ended.all()):
                return
            frozen = ended if not self.settled else over
            try:
                step = steps.send(replace(after, open=after.open & ~frozen[:, None]))
            except StopIteration:
                return


def confirmed(canvas: Canvas, stop: tuple[int, ...]) -> Tensor:
    """Bool[B]: an end token was written, and every column before it is decided."""
    return _ends(canvas, stop).any(-1)


def written(canvas: Canvas, length: int, stop: tuple[int, ...]) -> list[list[int]]:
    """The answer of each row, at most `length` tokens, up to its first end token, which is left out.

    Open columns are left out too: behind a confirmed end there may be some.
    """
    ends, answers = _ends(canvas, stop), []
    for row in range(len(ends)):
        mine = ~canvas.fixed[row]
        if bool(ends[row].any()):
            mine = mine & (torch.arange(len(mine), device=mine.device) < ends[row].long().argmax())
        places = mine.nonzero()[:length, 0]
        answers.append(canvas.tokens[row, places[~canvas.open[row, places]]].tolist())
    return answers


def _ends(canvas: Canvas, stop: tuple[int, ...]) -> Tensor:
    ids = torch.tensor(stop, dtype=torch.long, device=canvas.tokens.device)
    return ~canvas.fixed & (canvas.open.cumsum(-1) == 0) & torch.isin(canvas.tokens, ids)
