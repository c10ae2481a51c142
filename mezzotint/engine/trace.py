"""An answer as it was written, on disk: events with their times, and the text of every token, so no model is needed.

A trace is JSON Lines.  The first line is the header: `{"mezzotint_trace": 1, "model": {...}, "prompt": ..., "options":
{...}, "before": ...}`.  Every further line is an event of `engine/events.py` with its fields, `at` in seconds from the
request on, and with `texts` beside `tokens`: what each token reads as by itself.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TextIO

from mezzotint.engine.events import Event, Finished, Reopened, Settled, Started, Wrote
from mezzotint.engine.transcript import Pieces
from mezzotint.errors import CheckpointError

VERSION = 1
"""Of the format; a reader refuses those that it does not know."""
EVENTS: dict[str, type[Event]] = {
    "started": Started,
    "wrote": Wrote,
    "reopened": Reopened,
    "settled": Settled,
    "finished": Finished,
}
_NAMES = {kind: name for name, kind in EVENTS.items()}
_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


class TraceWriter:
    """Writes a trace line by line, so that one which was cut short can be shown as far as it goes."""

    def __init__(self, out: TextIO, header: dict[str, Any], decoder: Callable[[], Pieces]) -> None:
        """`header` is what there is to say beside the version; `decoder` makes the model's streaming decoder."""
        self._out, self._decoder = out, decoder
        self._texts: dict[int, str] = {}
        self._line({"mezzotint_trace": VERSION, **header})

    def add(self, seconds: float, event: Event) -> None:
        """One event, `seconds` after the request."""
        row: dict[str, Any] = {"at": round(seconds, 6), "event": _NAMES[type(event)], **asdict(event)}
        if isinstance(event, Wrote):
            row["scores"] = [round(score, 4) for score in event.scores]
        if isinstance(event, Wrote | Settled):
            row["texts"] = [self._text(token) for token in event.tokens]
        self._line(row)

    def _text(self, token: int) -> str:
        """What a token reads as in the middle of a text; empty for a part of a character."""
        if token not in self._texts:
            decoder = self._decoder()
            # the first token of a text loses its space in some vocabularies, the second does not
            first, second = decoder.push(token), decoder.push(token)
            self._texts[token] = (second or first).replace(_REPLACEMENT, "")
        return self._texts[token]

    def _line(self, row: dict[str, Any]) -> None:
        self._out.write(json.dumps(row, ensure_ascii=False) + "\n")


@dataclass(frozen=True)
class Trace:
    """What a file of `TraceWriter` holds."""

    header: dict[str, Any]
    """Model, prompt, options, and the text that is continued, as `before`."""
    events: list[tuple[float, Event]]
    """Each with its time in seconds."""
    texts: dict[int, str] = field(default_factory=dict)
    """Of the tokens that occur."""

    @classmethod
    def read(cls, path: Path) -> "Trace":
        """A trace from a file; a last line that was cut off is left out.

        Raises:
            CheckpointError: no such file, no trace, or one of a later version.
        """
        try:
            lines = path.read_text("utf-8").split("\n")
        except OSError as error:
            raise CheckpointError(f"cannot read the trace {path} ({error.strerror}): check the path") from None
        except UnicodeDecodeError:
            raise _no_trace(path) from None
        header = _parsed(lines[0])
        if header is None or "mezzotint_trace" not in header:
            raise _no_trace(path)
        if header["mezzotint_trace"] != VERSION:
            raise CheckpointError(
                f"{path} is a trace of version {header['mezzotint_trace']} and this program reads {VERSION}: "
                "use the program that wrote it"
            )
        trace = cls(header, [])
        for number, line in enumerate(lines[1:-1], 2):
            row = _parsed(line)
            try:
                trace._take({} if row is None else row)
            except (KeyError, TypeError, ValueError):
                raise CheckpointError(f"line {number} of the trace {path} is damaged: record it again") from None
        return trace

    @property
    def letters(self) -> bool:
        """Whether every token is one character."""
        return all(len(text) <= 1 for text in self.texts.values())

    def stream(self) -> Pieces:
        """A decoder that reads tokens as the texts that the trace gives them."""
        return _Said(self.texts)

    def _take(self, row: dict[str, Any]) -> None:
        kind: Any = EVENTS[row.pop("event")]
        at = float(row.pop("at"))
        texts: Sequence[str] = row.pop("texts", ())
        event: Event = kind(**{name: tuple(value) if isinstance(value, list) else value for name, value in row.items()})
        if isinstance(event, Wrote | Settled):
            self.texts.update(zip(event.tokens, map(str, texts), strict=True))
        self.events.append((at, event))


class _Said:
    def __init__(self, texts: dict[int, str]) -> None:
        self._texts = texts

    def push(self, ids: int | Iterable[int]) -> str:
        return "".join(self._texts.get(token, "") for token in ([ids] if isinstance(ids, int) else ids))

    def flush(self) -> str:
        return ""


def recorded(timed: Iterable[tuple[float, Event]], writer: TraceWriter | None) -> Iterator[tuple[float, Event]]:
    """The same events, each written down on the way."""
    for at, event in timed:
        if writer is not None:
            writer.add(at, event)
        yield at, event


def _parsed(line: str) -> dict[str, Any] | None:
    try:
        row = json.loads(line)
    except ValueError:
        return None
    return row if isinstance(row, dict) else None


def _no_trace(path: Path) -> CheckpointError:
    return CheckpointError(f"{path} is no trace: mezzotint generate --trace FILE.jsonl writes one")
