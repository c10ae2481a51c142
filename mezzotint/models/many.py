"""Many requests to one model, several under way at once, their answers in the order that they were asked in."""

from collections import deque
from collections.abc import Iterable, Iterator

from mezzotint.engine.engine import Engine
from mezzotint.engine.events import Event
from mezzotint.engine.stream import Stream
from mezzotint.errors import MezzotintError
from mezzotint.models.answer import Answer, Asked, Origin, answer_of


class _Running:
    """A request under way, and what it has said so far."""

    def __init__(self, stream: Stream, origin: Origin) -> None:
        self.stream, self.origin = stream, origin
        self.events: list[Event] = []
        self.result: Answer | MezzotintError | None = None

    def read(self) -> None:
        """One more event."""
        try:
            event = next(self.stream, None)
        except MezzotintError as error:  # of this request alone
            self.result = error
            return
        if event is None:
            self.result = answer_of(self.events, self.origin)
        else:
            self.events.append(event)


def answers(
    engine: Engine, asked: Iterable[Asked | MezzotintError], at_once: int = 8
) -> Iterator[Answer | MezzotintError]:
    """Each answer as soon as it and all before it are there; what was refused, or fails, keeps its place as an error.

    Args:
        engine: which writes them; each gets the text that it gets alone.
        asked: requests of `Model.asked`, taken a few ahead of the answers.
        at_once: requests under way.
    """
    coming, line = iter(asked), deque[_Running | MezzotintError]()
    more = True
    try:
        while True:
            while more and len(line) < at_once:
                one = next(coming, None)
                if one is None:
                    more = False
                else:
                    line.append(_begun(engine, one))
            if not line:
                return
            done = line[0] if isinstance(line[0], MezzotintError) else line[0].result
            if done is not None:
                line.popleft()
                yield done
                continue
            for running in list(line):
                if isinstance(running, _Running) and running.result is None:
                    running.read()
    finally:
        for running in line:
            if isinstance(running, _Running):
                running.stream.close()


def _begun(engine: Engine, asked: Asked | MezzotintError) -> "_Running | MezzotintError":
    if isinstance(asked, MezzotintError):
        return asked
    try:
        return _Running(engine.submit(asked.request), asked.origin)
    except MezzotintError as error:
        return error
