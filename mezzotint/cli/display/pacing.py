"""When the events of an answer are shown: as they come, slowed down for the eye, or at the times of a trace."""

import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator

from mezzotint.cli.display.live import Display, Live, play
from mezzotint.engine.events import Event, Finished, Settled, Wrote
from mezzotint.engine.stream import Stream
from mezzotint.engine.trace import TraceWriter, recorded
from mezzotint.errors import ConfigError

PACE = 8.0
"""Changes of the canvas a second, where an answer is slowed down and nobody says how much."""
GRAIN_SECONDS = 1 / 12
"""How often the noise moves while nothing else happens."""

Clock = Callable[[float, float, Event], float]
"""(when the event before was due, the event's own time, the event) -> when it is due; seconds from the beginning."""


def perform(
    stream: Stream, display: Display, *, pace: float | None = None, trace: TraceWriter | None = None
) -> Finished | None:
    """Show an answer while it is written; the last event.

    Args:
        stream: closed at the end, also after an interruption.
        display: closed likewise.
        pace: changes of the canvas a second, on a terminal; the model writes ahead meanwhile, so that the times of its
            events are its own.
        trace: where the events are recorded.
    """
    try:
        if pace is not None and isinstance(display, Live):
            return play(waited(recorded(_ahead(stream, display), trace), every(pace), display), display)
        return play((event for _, event in recorded(_clocked(stream), trace)), display)
    finally:
        stream.close()


def every(pace: float) -> Clock:
    """Due one after the other, so many changes of the canvas a second."""
    return lambda before, at, event: before + (1 / pace if isinstance(event, Wrote | Settled) else 0.0)


def at_speed(speed: float) -> Clock:
    """Due when they came, so many times as fast."""
    return lambda before, at, event: at / speed


def waited(timed: Iterable[tuple[float, Event]], clock: Clock, display: Display) -> Iterator[Event]:
    """The events when they are due; the noise moves meanwhile."""
    begun, due = time.perf_counter(), 0.0
    for at, event in timed:
        # what was late does not hurry what follows
        due = max(clock(due, at, event), 0.0)
        while (left := begun + due - time.perf_counter()) > 0:
            time.sleep(min(left, GRAIN_SECONDS))
            display.refresh()
        begun = max(begun, time.perf_counter() - due)
        yield event


def checked_pace(slow: bool, pace: float | None) -> float | None:
    """The pace that `--slow` and `--pace` ask for; None shows events as they come.

    Raises:
        ConfigError: it is no number above 0.
    """
    if pace is not None and not 0 < pace < float("inf"):
        raise ConfigError(f"cannot show {pace} changes a second: give --pace a number above 0")
    return pace or (PACE if slow else None)


def _clocked(events: Iterable[Event]) -> Iterator[tuple[float, Event]]:
    begun = time.perf_counter()
    for event in events:
        yield time.perf_counter() - begun, event


def _ahead(events: Iterable[Event], display: Display) -> Iterator[tuple[float, Event]]:
    """The events, read by a thread of their own as fast as they come."""
    read: queue.SimpleQueue[tuple[float, Event] | BaseException | None] = queue.SimpleQueue()

    def reading() -> None:
        try:
            for timed in _clocked(events):
                read.put(timed)
            read.put(None)
        except BaseException as error:  # raised where it is read
            read.put(error)

    threading.Thread(target=reading, daemon=True).start()
    while True:
        try:
            found = read.get(timeout=GRAIN_SECONDS)
        except queue.Empty:
            display.refresh()
            continue
        if found is None:
            return
        if isinstance(found, BaseException):
            raise found
        yield found
