"""`mezzotint generate --input`: a file of prompts in, a file of answers out, a line each; what is there stays."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from mezzotint.errors import ConfigError, MezzotintError, RequestError
from mezzotint.models.many import answers
from mezzotint.models.options import Options

if TYPE_CHECKING:
    from mezzotint.models.answer import Asked
from mezzotint.models.base import Model

TEXTS = ("prompt", "messages")
AT_ONCE = 8
"""Prompts under way."""


def write_file(model: "Model", lines: list[tuple[int, str]], target: Path | None, base: dict[str, Any]) -> int:
    """Answer every line that `target` lacks; how many lines of the whole were refused.

    Args:
        model: which answers.
        lines: of `read_lines`.
        target: appended to; None is stdout.
        base: options of all lines, which a line may change.

    Raises:
        ConfigError: a target that cannot be written, or is of other lines.
    """
    done, refused = (0, 0) if target is None else resume(target, lines)
    rows = [_parsed(text) for _, text in lines[done:]]
    asked = (row if isinstance(row, MezzotintError) else _asked(model, row, base) for row in rows)
    with _opened(target) as out, _progress(len(lines), done) as step:
        for (number, _), row, answer in zip(lines[done:], rows, answers(model.engine, asked, AT_ONCE), strict=True):
            record: dict[str, Any] = {"line": number, **_texts(row, "id")}
            if isinstance(answer, MezzotintError):
                refused += 1
                record["error"] = str(answer)
                typer.secho(f"line {number}: {answer}", fg="red", err=True)
            else:
                record |= answer.to_dict()
            out.write(json.dumps(record, ensure_ascii=False) + "\n")
            out.flush()
            step()
    return refused


def read_lines(source: str) -> list[tuple[int, str]]:
    """Lines with something in them, with their numbers, of a file of JSON lines; - is stdin.

    Raises:
        ConfigError: the file cannot be read.
        RequestError: it is not UTF-8.
    """
    try:
        data = sys.stdin.buffer.read() if source == "-" else Path(source).read_bytes()
        text = data.decode("utf-8")
    except OSError as error:
        raise ConfigError(f"cannot read the prompts in {source} ({error.strerror}): check the path") from None
    except UnicodeDecodeError as error:
        raise RequestError(f"{source} is not valid UTF-8 at byte {error.start}: convert it") from None
    # not splitlines: a JSON string may hold the other line separators of Unicode
    return [(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]


def resume(target: Path, lines: list[tuple[int, str]]) -> tuple[int, int]:
    """How many lines are answered already, and how many of these were refused; a cut last line is taken away.

    Raises:
        ConfigError: the file cannot be read, or answers other lines.
    """
    if not target.exists():
        return 0, 0
    try:
        data = target.read_bytes()
        whole = data[: data.rfind(b"\n") + 1]
        if len(whole) < len(data):
            with target.open("r+b") as file:
                file.truncate(len(whole))
    except OSError as error:
        raise ConfigError(f"cannot go on with {target} ({error.strerror}): take another --output") from None
    refused = 0
    there = whole.split(b"\n")[:-1]
    for at, line in enumerate(there):
        try:
            record: dict[str, Any] = json.loads(line)
            number, text = lines[at]
            same = record["line"] == number and _texts(record) == _texts(_parsed(text))
        except (ValueError, KeyError, TypeError, IndexError):
            same, record = False, {}
        if not same:
            raise ConfigError(
                f"line {at + 1} of {target} is no answer to a line of this input: take another --output, or remove it"
            )
        refused += "error" in record
    return len(there), refused


def _parsed(line: str) -> dict[str, Any] | RequestError:
    try:
        row = json.loads(line)
    except ValueError:
        return RequestError('this is no JSON: write "a string", {"prompt": ...} or {"messages": [...]}')
    if isinstance(row, str):
        return {"prompt": row}
    if not isinstance(row, dict) or len([key for key in TEXTS if key in row]) != 1:
        return RequestError('there is no prompt in this: write "a string", {"prompt": ...} or {"messages": [...]}')
    return row


def _texts(row: dict[str, Any] | RequestError, *also: str) -> dict[str, Any]:
    """What is carried over from a line."""
    return {} if isinstance(row, RequestError) else {key: row[key] for key in (*also, *TEXTS) if key in row}


def _asked(model: "Model", row: dict[str, Any], base: dict[str, Any]) -> "Asked | MezzotintError":
    own = {key: value for key, value in row.items() if key not in ("id", *TEXTS)}
    prompt: Any = row.get("prompt", row.get("messages"))
    try:
        Options.of(own)  # a name that is wrong is that of this line
        if "prompt" in row and not isinstance(prompt, str):
            raise RequestError("the prompt is no text: give a string, or a chat as messages")
        return model.asked(prompt, filling=model.wants_filling(prompt), **{**base, **own})
    except MezzotintError as error:
        return error


@contextmanager
def _opened(target: Path | None) -> Iterator[Any]:
    if target is None:
        yield sys.stdout
        return
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        out = target.open("a", encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"cannot write to {target} ({error.strerror}): take another --output") from None
    with out:
        yield out


@contextmanager
def _progress(total: int, done: int) -> Iterator[Any]:
    """A bar on stderr, where it is a terminal; yields what is called after every line."""
    if not sys.stderr.isatty():
        yield lambda: None
        return
    columns = (TextColumn("prompts"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task("", total=total, completed=done)
        yield lambda: progress.advance(bar)
