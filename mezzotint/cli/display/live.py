"""An answer while it is written: a canvas that is burnished out of noise, or a plain stream of settled text.

In a terminal, settled text is plain, drafts are coloured by confidence and columns without a token are noise that
keeps moving.  Rows that can no longer change are printed for good, so an answer may be longer than the screen; only the
last few rows are painted again, and of those only the ones that differ.
"""

import os
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Protocol, TextIO, runtime_checkable

from rich.console import Console

from mezzotint.cli.display.painter import STATUS, Painter, speck
from mezzotint.cli.display.wrapping import PLAIN, Piece, lay_out
from mezzotint.engine.events import Event, Finished, Reopened, Settled, Started, Wrote
from mezzotint.engine.transcript import Pieces
from mezzotint.models.answer import Origin

FRAME_SECONDS = 1 / 30
LEAST_WIDTH, LEAST_HEIGHT = 8, 3
"""A smaller terminal gets the plain stream."""
PLATE = 8
"""Columns of noise to show while nothing is known yet."""


@runtime_checkable
class Closes(Protocol):
    """Events that can be stopped."""

    def close(self) -> None:
        """Stop what writes them."""
        ...


class Vocabulary(Protocol):
    """What the display needs of a tokenizer."""

    @property
    def letters(self) -> bool:
        """Whether every token is one character."""
        ...

    def stream(self) -> Pieces:
        """A decoder for one text."""
        ...


class Display(Protocol):
    """Shows one answer; `close` is called once, also after an interruption."""

    def show(self, event: Event) -> None:
        """Take an event to the screen."""
        ...

    def refresh(self) -> None:
        """Paint again what moves."""
        ...

    def close(self) -> None:
        """Leave the terminal as it was."""
        ...

    @property
    def text(self) -> str:
        """Everything settled so far."""
        ...


class Stream:
    """Settled text as it settles, for pipes, files and dumb terminals."""

    def __init__(self, out: TextIO, before: str = "") -> None:
        """`before` is the text that the answer continues."""
        self._out = out
        self._parts: list[str] = []
        out.write(before)

    @property
    def text(self) -> str:
        return "".join(self._parts)

    def show(self, event: Event) -> None:
        """Write what the event settles."""
        if isinstance(event, Settled | Finished):
            self._write(event.text)

    def refresh(self) -> None:
        """Text has nothing that moves."""

    def close(self) -> None:
        """End the line, if anything was written."""
        if self._parts and not self._parts[-1].endswith("\n"):
            self._out.write("\n")
        self._out.flush()

    def _write(self, text: str) -> None:
        if text:
            self._parts.append(text)
            self._out.write(text)
            self._out.flush()


class Live:
    """The canvas in a terminal."""

    def __init__(self, tokenizer: Vocabulary, console: Console, before: str = "", note: str = "") -> None:
        """`before` is the text that the answer continues; `note` stands where the speed is told otherwise."""
        self._tokenizer = tokenizer
        self._note = note
        self._painter = Painter(console)
        self._parts: list[str] = []
        self._tail = before
        self._ids: list[int] = []
        self._drafts: dict[int, tuple[int, float]] = {}
        self._block = PLATE
        self._begun = time.perf_counter()
        self._painted = 0.0
        self._frame = 0
        self._drafted = False
        self._console = console
        self._paint("")

    @property
    def text(self) -> str:
        return "".join(self._parts)

    def show(self, event: Event) -> None:
        """Take the event in, and paint if the last frame is old enough."""
        match event:
            case Started():
                self._begun = time.perf_counter()
                self._block = 0
            case Wrote():
                self._drafts |= zip(event.columns, zip(event.tokens, event.scores, strict=True), strict=True)
                self._block = event.width - len(self._ids)
            case Reopened():
                for column in event.columns:
                    self._drafts.pop(column, None)
            case Settled():
                for column in range(len(self._ids), len(self._ids) + len(event.tokens)):
                    self._drafts.pop(column, None)
                self._ids += event.tokens
                self._take(event.text)
            case Finished():
                self._take(event.text)
                return
        # a draft lives for one pass only, so frames wait for one, and the first is never missed
        is_draft = isinstance(event, Wrote)
        wait = FRAME_SECONDS * (1 if is_draft else 2)
        if time.perf_counter() - self._painted >= wait or (is_draft and not self._drafted):
            self._paint(self._progress())
        self._drafted |= is_draft

    def refresh(self) -> None:
        """Paint again: the noise has moved."""
        self._paint(self._progress())

    def close(self) -> None:
        """Leave the settled text, and nothing else, on the screen."""
        tail = self._tail.rstrip()
        self._painter.finish(lay_out(tail, [], self._painter.width).rows if tail else [])

    def _take(self, text: str) -> None:
        if text:
            self._parts.append(text)
            self._tail += text

    def _progress(self) -> str:
        seconds = time.perf_counter() - self._begun
        count = len(self._ids)
        if self._note:
            return f"{count} tokens  {self._note}" if count else self._note
        return f"{count} tokens  {count / seconds:.0f} tokens/s" if count and seconds > 0 else ""

    def _paint(self, status: str) -> None:
        self._frame += 1
        # white space at the end waits for what follows, so that an answer leaves no empty rows behind
        settled = self._tail.rstrip()
        space = self._tail[len(settled) :]
        layout = lay_out(settled, [(space, PLAIN), *self._draft(), *self._noise()], self._painter.width)
        self._tail = layout.rest + space
        live = layout.rows[layout.final :]
        room = max(1, self._painter.height - 2)
        # what does not fit is draft or noise at the end of the block, unless settled text alone fills the screen
        self._painter.paint(layout.rows[: layout.final], [*live[:room], [(status[: self._painter.width], STATUS)]])
        self._painted = time.perf_counter()

    def _draft(self) -> list[Piece]:
        """Drafts and the noise between them, up to the last draft."""
        pieces: list[Piece] = []
        decoder = self._tokenizer.stream()
        # the first draft may finish a character, or lose its space, because of what stands before it
        for token in self._ids[-4:]:
            decoder.push(token)
        last = max(self._drafts, default=-1)
        for column in range(len(self._ids), last + 1):
            if column in self._drafts:
                token, score = self._drafts[column]
                text = decoder.push(token).replace("\N{REPLACEMENT CHARACTER}", "")
                pieces.append((text, f"draft{min(3, max(0, int(score * 4)))}"))
            else:
                pieces.append(self._speck(column))
                decoder = self._tokenizer.stream()
        return pieces

    def _speck(self, column: int) -> Piece:
        """Noise as wide as what will stand there, so that the text does not jump."""
        return speck(column, self._frame, self._console, letter=self._tokenizer.letters)

    def _noise(self) -> list[Piece]:
        """The rest of the block; behind settled text a new one already lies ahead."""
        start = max([len(self._ids) - 1, *self._drafts]) + 1
        return [self._speck(column) for column in range(start, len(self._ids) + self._block)]


@contextmanager
def plate(status: str, live: bool) -> Iterator[None]:
    """Noise and what is being waited for, on a terminal that can show it, until the block is left."""
    if not (live and can_paint()):
        yield
        return
    console = Console()
    painter = Painter(console)
    noise = [speck(column, 0, console) for column in range(PLATE)]
    painter.paint([], [[*noise, (f"  {status}"[: max(0, painter.width - 33)], STATUS)]])
    try:
        yield
    finally:
        painter.clear()


def open_display(tokenizer: Vocabulary, live: bool, before: str = "", note: str = "") -> Display:
    """A canvas if stdout is a terminal that can show one, else a stream.

    `before` is the text that is continued; `note` tells at what speed the canvas is shown, if not its own.
    """
    if live and can_paint():
        return Live(tokenizer, Console(), before, note)
    return Stream(sys.stdout, before)


def can_paint() -> bool:
    """Whether stdout is a terminal with a cursor that moves, and large enough."""
    if not sys.stdout.isatty() or os.environ.get("TERM", "") in ("", "dumb", "unknown"):
        return False
    size = Console().size
    return size.width >= LEAST_WIDTH and size.height >= LEAST_HEIGHT


def play(events: Iterable[Event], display: Display) -> Finished | None:
    """Show every event and close the display, also when interrupted; the last event."""
    finished = None
    try:
        for event in events:
            display.show(event)
            if isinstance(event, Finished):
                finished = event
    finally:
        # an interrupted answer gives its lane back before anything else is asked
        if isinstance(events, Closes):
            events.close()
        display.close()
    return finished


def summary(finished: Finished, origin: Origin) -> str:
    """One line: tokens, seconds, tokens/s, tokens per forward.

    The first token of a causal model comes from reading the prompt, so the passes after it share the others.
    """
    tokens = finished.tokens - origin.given
    rate = tokens / finished.seconds if finished.seconds > 0 else 0.0
    counted = tokens - 1 if origin.causal else tokens
    per_forward = counted / finished.forwards if finished.forwards else tokens
    cut = (
        ", cut at the token limit" if finished.reason == "length" and origin.before is None and not origin.given else ""
    )
    return f"{tokens} tokens, {finished.seconds:.2f} s, {rate:.1f} tokens/s, {per_forward:.2f} tokens per forward{cut}"
