"""Writes canvases, whatever method fills them in: a lane is a generation of one text, stepped in turn with the others.

Every text has passes of its own: torch's products depend on how many rows they have, and a text must not depend on its
neighbours.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from mezzotint.decode.generation import Generation, Row
from mezzotint.engine.events import Reopened, Settled, Started, Wrote
from mezzotint.engine.request import Request
from mezzotint.engine.writer import Progress


@dataclass(frozen=True)
class Begun:
    """A generation of one text, and which of its columns are the answer."""

    generation: Generation
    start: int
    """The first column of the answer."""
    whole: bool
    """Whether the answer is the whole text, from `start` on, and not what stands behind the prompt up to its end."""
    noise: int | None
    """The id that stands in columns which hold nothing yet; None where any token may be noise."""
    drop: frozenset[int] = frozenset()
    """Ids that are no text, wherever they stand."""
    end: int | None = None
    """The column behind the answer, where the canvas is filled up to a whole block; None: it ends with the canvas."""


@dataclass(eq=False)
class CanvasLane:
    """A request under way."""

    request: Request
    begun: Begun | None = None
    passes: int = 0
    shown: dict[int, int] = field(default_factory=dict)
    """Token by column of what was shown and may still change."""
    settled: int = 0
    """Columns of the answer that were handed out."""


class CanvasWriter:
    """The writer of models that denoise a canvas."""

    def __init__(self, begin: Callable[[Request], Begun], check: Callable[[Request], None], lanes: int = 16) -> None:
        """`begin` lays out a request; `check` raises for one that cannot be written."""
        self._begin, self._check, self.lanes = begin, check, lanes

    def check(self, request: Request) -> None:
        """Raises RequestError, ConfigError, CapacityError or CanvasError for what cannot be written."""
        self._check(request)

    def begin(self, request: Request) -> CanvasLane:
        """Take a lane; the canvas is laid out in the first step."""
        return CanvasLane(request)

    def step(self, lanes: Sequence[CanvasLane]) -> list[Progress | Exception]:
        """One step of each canvas."""
        return [self._stepped(lane) for lane in lanes]

    def end(self, lane: CanvasLane) -> None:
        """Give the lane back."""
        lane.begun = None

    def _stepped(self, lane: CanvasLane) -> Progress | Exception:
        progress = Progress()
        try:
            if lane.begun is None:
                clock = time.perf_counter()
                lane.begun = self._begin(lane.request)
                given = len([token for token in lane.request.prompt if token is not None])
                progress.events.append(Started(given, time.perf_counter() - clock))
            begun = lane.begun
            generation = begun.generation
            going = generation.step()
            progress.forwards, lane.passes = len(generation.reads) - lane.passes, len(generation.reads)
            if going:
                _show(lane, begun, progress)
            else:
                _finish(lane, begun, progress)
        except Exception as error:  # one text's alone
            return error
        return progress


def _show(lane: CanvasLane, begun: Begun, progress: Progress) -> None:
    """What changed on the canvas, as events."""
    row = begun.generation.row()
    now = _decided(row, begun)
    settled = lane.settled + _settling(lane, begun, row)
    reopened = tuple(column for column in lane.shown if column not in now)
    fresh = [c for c, token in now.items() if c >= lane.settled and lane.shown.get(c) != token]
    if reopened:
        progress.events.append(Reopened(reopened))
    if fresh:
        scores = tuple(min(1.0, max(0.0, row.scores[begun.start + c])) for c in fresh)
        width = len(row.tokens[: begun.end]) - begun.start
        progress.events.append(Wrote(tuple(fresh), tuple(now[c] for c in fresh), scores, width))
    if settled > lane.settled:
        tokens = row.tokens[begun.start + lane.settled : begun.start + settled]
        progress.events.append(Settled(tuple(token for token in tokens if token not in begun.drop)))
    lane.settled = settled
    lane.shown = {column: token for column, token in now.items() if column >= settled}


def _decided(row: Row, begun: Begun) -> dict[int, int]:
    """Token by column of the answer, without noise."""
    here = slice(begun.start, begun.end)
    columns = enumerate(zip(row.tokens[here], row.undecided[here], strict=True))
    return {at: token for at, (token, undecided) in columns if not undecided or token != begun.noise}


def _settling(lane: CanvasLane, begun: Begun, row: Row) -> int:
    """How many more columns of the answer can no longer change; an end token and what is behind it wait for the end."""
    generation = begun.generation
    limit = len(row.tokens[: begun.end])
    if generation.final is not None:
        limit = min(generation.final, limit)
    count = 0
    for at in range(begun.start + lane.settled, limit):
        if row.undecided[at] or row.tokens[at] in generation.stop:
            break
        count += 1
    return count


def _finish(lane: CanvasLane, begun: Begun, progress: Progress) -> None:
    """The rest of the text, and why it ends."""
    generation = begun.generation
    if begun.whole:
        answer, ended = generation.row().tokens[begun.start : begun.end], False
    else:
        answer = generation.result().texts[0]
        ended = bool(generation.stop) and len(answer) < lane.request.max_new_tokens
    rest = tuple(token for token in answer[lane.settled :] if token not in begun.drop)
    if rest:
        progress.events.append(Settled(rest))
    progress.finished = "stop" if ended else "length"
