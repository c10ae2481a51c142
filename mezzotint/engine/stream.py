"""The events of one request, for whoever asked."""

import asyncio
from typing import TYPE_CHECKING

from mezzotint.engine.events import Event

if TYPE_CHECKING:
    from mezzotint.engine.engine import Engine, Job


class Stream:
    """An iterator over events, and an asynchronous one; letting go of it, or `close`, ends the request.

    Reading makes the engine's steps.  It may be read from any thread, by one at a time.
    """

    def __init__(self, engine: "Engine", job: "Job") -> None:
        self._engine, self._job = engine, job

    def __iter__(self) -> "Stream":
        return self

    def __next__(self) -> Event:
        event = self._engine.next_event(self._job)
        if event is None:
            raise StopIteration
        return event

    def __aiter__(self) -> "Stream":
        return self

    async def __anext__(self) -> Event:
        if self._job.events:  # no thread is needed for what is here already
            return self.__next__()
        event = await asyncio.to_thread(self._engine.next_event, self._job)
        if event is None:
            raise StopAsyncIteration
        return event

    def close(self) -> None:
        """End the request; its lane is free within one step.  Harmless at any time, also twice."""
        if not self._job.done:
            self._engine.cancel(self._job)

    def __enter__(self) -> "Stream":
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()
