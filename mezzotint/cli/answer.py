"""What `mezzotint generate` prints for models in folders: the canvas on its way, the text, its numbers."""

import json
import sys
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from mezzotint.decode.canvas import Canvas

Show = Callable[[int, bool], str]
"""A token, and whether it is undecided -> its text."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """A text and how it came about."""

    text: str
    tokens: int
    seconds: float
    forwards: int
    mode: str
    model: str
    finish_reason: str
    load_seconds: float

    def say(self, *, as_json: bool) -> None:
        """One JSON object, or the text with a closing line on stderr."""
        rate, per_forward = self.tokens / self.seconds, self.tokens / self.forwards
        if not as_json:
            typer.echo(self.text)
            line = f"{self.tokens} tokens in {self.seconds:.2f} s, {rate:.0f} tokens/s, {per_forward:.2f} per forward"
            typer.secho(line, dim=True, err=True)
            return
        numbers = asdict(self) | {
            "seconds": round(self.seconds, 4),
            "tokens_per_second": round(rate, 2),
            "tokens_per_forward": round(per_forward, 3),
            "load_seconds": round(self.load_seconds, 3),
        }
        sys.stdout.write(json.dumps(numbers, ensure_ascii=False) + "\n")


def last(frames: "Iterator[Canvas]", show: Show, *, painted: bool, start: int = 0) -> "tuple[Canvas, int]":
    """The last canvas and how many there were; with `painted`, columns from `start` on appear in a terminal."""
    if painted and sys.stdout.isatty():
        frames = _painted(frames, show, start)
    count, canvas = deque(enumerate(frames, 1), maxlen=1).pop()
    return canvas, count


def _painted(frames: "Iterator[Canvas]", show: Show, start: int) -> "Iterator[Canvas]":
    from rich.live import Live
    from rich.text import Text

    with Live(transient=True, refresh_per_second=20) as screen:
        for canvas in frames:
            line = Text()
            tokens, open_ = canvas.tokens[0, start:].tolist(), canvas.open[0, start:].tolist()
            for token, undecided in zip(tokens, open_, strict=True):
                line.append(show(token, undecided), style="dim" if undecided else "bold")
            screen.update(line)
            yield canvas
