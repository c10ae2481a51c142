"""What an engine drives: something that writes several requests, a step at a time."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from mezzotint.engine.events import Reopened, Settled, Started, Wrote
from mezzotint.engine.request import Request


@dataclass(slots=True)
class Progress:
    """What a step brought to one request."""

    events: list[Started | Wrote | Reopened | Settled] = field(default_factory=list)
    forwards: int = 0
    """Passes of the network that count; reading the prompt does not."""
    finished: str | None = None
    """The reason, once nothing more will come."""


Lane = TypeVar("Lane")


class Writer(Protocol[Lane]):
    """Writes requests in lanes; a lane is one request under way.

    A text never depends on the lanes beside it, nor on when they joined or left.
    """

    @property
    def lanes(self) -> int:
        """Most requests under way at once."""
        ...

    def check(self, request: Request) -> None:
        """Refuse what cannot be written, before it waits for a lane.

        Raises:
            RequestError: a prompt that does not fit, or has holes that cannot be filled.
            ConfigError: a method that this writer does not have.
        """
        ...

    def begin(self, request: Request) -> Lane:
        """Take a lane; nothing is computed yet.

        Raises:
            MezzotintError: a request that cannot be written.
        """
        ...

    def step(self, lanes: Sequence[Lane]) -> list[Progress | Exception]:
        """One denoising step, or one pass, of each of these lanes; what went wrong in one alone stands in its place."""
        ...

    def end(self, lane: Lane) -> None:
        """Give a lane back, finished or not."""
        ...
