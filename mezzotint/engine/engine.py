"""The one loop: requests in, events out, one step of every live request at a time.

No thread of its own is needed: whoever waits for an event of its stream makes the next step for all, and others that
wait meanwhile take what the step brought them.  So a single reader pays for nothing, a stream that nobody reads costs
nothing, and no lock is held while an event is looked at.
"""

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from mezzotint.engine.events import Event, Finished, Reopened, Settled, Started, Wrote
from mezzotint.engine.request import Request
from mezzotint.engine.stream import Stream
from mezzotint.engine.transcript import Pieces, Transcript
from mezzotint.engine.writer import Progress, Writer
from mezzotint.errors import CapacityError

TAIL = 16
"""Tokens of a prompt that a decoder must have seen to go on behind it."""
BACKLOG = 256
"""Events of a request that wait for their reader before it is written on."""


@dataclass(eq=False)
class Job:
    """A request and what became of it so far."""

    request: Request
    transcript: Transcript
    asked: bool = False
    """Somebody has begun to read; until then nothing is computed."""
    cancelled: bool = False
    lane: Any = None
    events: deque[Event] = field(default_factory=deque)
    done: bool = False
    error: BaseException | None = None
    begun: float = 0.0
    first: float = 0.0
    started: bool = False
    settled: int = 0
    """Tokens that were handed out."""
    again: int = 0
    """Of these, so many are still to come again: the request lost its lane and is written anew, to the same text."""
    forwards: int = 0

    @property
    def runnable(self) -> bool:
        """Whether a step should write it on."""
        return self.asked and not self.cancelled and not self.done and len(self.events) < BACKLOG


class Engine:
    """Writes requests with one writer, many at once."""

    def __init__(self, writer: Writer, decoder: Callable[[], Pieces] | None = None) -> None:
        """`decoder` makes the streaming decoder of one answer; without it events have tokens but no text."""
        self.writer = writer
        self._decoder = decoder
        self._device = threading.Lock()
        self._state = threading.Condition(threading.RLock())
        self._waiting: list[Job] = []
        self._writing: list[Job] = []
        self._closed = False

    def submit(self, request: Request) -> Stream:
        """The events of a request, the last of which is `Finished`; nothing is computed before the first is asked for.

        Raises:
            RequestError: a request that the writer cannot write.
            ConfigError: a method that does not fit the model.
            CapacityError: the engine is closed.
        """
        self.writer.check(request)
        decoder = None if self._decoder is None else self._decoder()
        if decoder is not None and request.continues:
            decoder.push([token for token in request.prompt if token is not None][-TAIL:])
        job = Job(request, Transcript(decoder, request.stop))
        with self._state:
            if self._closed:
                raise CapacityError("this model is closed: load it again")
            self._waiting.append(job)
        return Stream(self, job)

    def step(self) -> bool:
        """One step of every request that is read; False where there was nothing to do.

        Safe from any thread: where another one is making a step, that one is waited for instead.
        """
        if not self._device.acquire(blocking=False):
            with self._state:
                self._state.wait_for(lambda: not self._device.locked())
            return True
        try:
            return self._step()
        finally:
            self._release()

    @contextlib.contextmanager
    def exclusive(self) -> Iterator[None]:
        """The network for something else than requests: no step is made inside the block."""
        self._device.acquire()
        try:
            yield
        finally:
            self._release()

    def close(self) -> None:
        """End everything under way; later requests are refused."""
        with self._state:
            self._closed = True
            for job in (*self._waiting, *self._writing):
                if not job.done:
                    job.error = CapacityError("this model was closed while it wrote: load it again")
                job.cancelled = job.done = True
            self._state.notify_all()
        self.sweep()

    @property
    def taken(self) -> int:
        """Requests that hold a lane."""
        return len(self._writing)

    # what streams call -------------------------------------------------------------------------------------------

    def next_event(self, job: Job) -> Event | None:
        """The next event of a request, None after the last; makes steps while there is none.

        Raises:
            MezzotintError: what ended the request.
        """
        while True:
            with self._state:
                job.asked = True
                if job.events:
                    return job.events.popleft()
                if job.error is not None:
                    raise job.error
                if job.done:
                    return None
            if self._device.acquire(blocking=False):
                try:
                    if not job.events and not job.done:
                        self._step()
                finally:
                    self._release()
            else:
                with self._state:
                    self._state.wait_for(lambda: bool(job.events) or job.done or not self._device.locked())

    def cancel(self, job: Job) -> None:
        """Forget a request; its lane is free within one step."""
        job.cancelled = job.done = True
        self.sweep()

    def sweep(self) -> None:
        """Give back the lanes of cancelled requests, unless a step is under way, which does so at its end."""
        if self._device.acquire(blocking=False):
            try:
                self._retire()
            finally:
                self._release()

    # the loop ----------------------------------------------------------------------------------------------------

    def _step(self) -> bool:
        self._retire()
        self._admit()
        live = [job for job in self._writing if job.runnable]
        if not live:
            return False
        try:
            for job, result in zip(live, self.writer.step([job.lane for job in live]), strict=True):
                if isinstance(result, Exception):
                    self._fail(job, result)
                else:
                    self._take(job, result)
        except Exception as error:
            # of the pass that all share: nobody's text can go on
            for job in live:
                self._fail(job, error)
        except BaseException:
            # an interrupt hit somewhere in the step: lanes may be in any state, so they are written anew
            for job in live:
                self._evict(job)
            raise
        self._retire()
        return True

    def _admit(self) -> None:
        """Give lanes to those who wait, in order; one that is not being read leaves its own to one that is."""
        with self._state:
            wanting = [job for job in self._waiting if job.runnable]
        for job in wanting:
            if len(self._writing) >= self.writer.lanes:
                idle = next((other for other in self._writing if not other.runnable), None)
                if idle is None:
                    return
                self._evict(idle)
            with self._state:
                self._waiting.remove(job)
            try:
                job.lane = self.writer.begin(job.request)
            except Exception as error:
                self._fail(job, error)
                continue
            job.begun = job.begun or time.perf_counter()
            self._writing.append(job)

    def _retire(self) -> None:
        with self._state:
            self._waiting = [job for job in self._waiting if not job.done]
        for job in [job for job in self._writing if job.done]:
            self._writing.remove(job)
            self.writer.end(job.lane)
            job.lane = None

    def _evict(self, job: Job) -> None:
        """Take a lane back; what was handed out is skipped when the request is written anew."""
        self._writing.remove(job)
        with contextlib.suppress(Exception):
            self.writer.end(job.lane)
        job.lane, job.again, job.forwards = None, job.settled, 0
        with self._state:
            self._waiting.append(job)

    def _fail(self, job: Job, error: Exception) -> None:
        with self._state:
            job.error, job.done = error, True

    def _take(self, job: Job, progress: Progress) -> None:
        """Hand out what a step brought."""
        if job.done:
            return
        job.forwards += progress.forwards
        for event in progress.events:
            reason = self._hand_out(job, event)
            if reason is not None:
                self._finish(job, reason)
                return
        if progress.finished is not None:
            self._finish(job, progress.finished)

    def _hand_out(self, job: Job, event: Started | Wrote | Reopened | Settled) -> str | None:
        """One event to its reader; why the answer ends with it, if it does."""
        if isinstance(event, Started):
            if not job.started:
                job.started = True
                job.events.append(event)
            return None
        if not isinstance(event, Settled):
            if not job.again:
                job.events.append(event)
            return None
        fresh = event.tokens[job.again :] if job.again else event.tokens
        job.again -= len(event.tokens) - len(fresh)
        if not fresh:
            return None
        job.first = job.first or time.perf_counter() - job.begun
        count, text, ended = job.transcript.push(fresh)
        job.settled += count
        job.events.append(Settled(fresh[:count], text))
        return "stop" if ended else None

    def _finish(self, job: Job, reason: str) -> None:
        rest, ended = job.transcript.flush()
        seconds = time.perf_counter() - job.begun
        done = Finished("stop" if ended else reason, job.settled, seconds, job.forwards, job.first or seconds, rest)
        with self._state:
            job.events.append(done)
            job.done = True

    def _release(self) -> None:
        self._device.release()
        with self._state:
            self._state.notify_all()
            writing, waiting = self._writing, self._waiting
            left = any(job.cancelled for job in writing) or any(job.cancelled for job in waiting)
        if left:  # cancelled between the step's last look and now
            self.sweep()
