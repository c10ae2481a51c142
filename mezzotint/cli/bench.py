"""`mezzotint bench`: how fast and how well, beside other people's engines."""

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

EVERY = "ar,diffusion,verify,llama.cpp,transformers-bf16,transformers-fp32"


def bench(
    engines: Annotated[
        str, typer.Option(help="What to measure, separated by commas; what is not installed is left out with a word.")
    ] = EVERY,
    model: Annotated[str | None, typer.Option(help="A model; the default one if not given.")] = None,
    prompts: Annotated[int, typer.Option("--prompts", "-n", help="Held-out chat prompts, at most 71.")] = 60,
    new_tokens: Annotated[int, typer.Option(help="Most new tokens of an answer.")] = 128,
    rounds: Annotated[int, typer.Option(help="Turns the prompts are dealt over; engines take turns in each.")] = 10,
    questions: Annotated[
        int, typer.Option(help="Short questions scored by exact match, at most 295; 0 for none.")
    ] = 240,
    asked: Annotated[
        str, typer.Option("--ask", help="Engines that get the questions; transformers takes ten more minutes for them.")
    ] = "ar,diffusion,verify,llama.cpp",
    threads: Annotated[
        int | None, typer.Option(help="Threads of every engine; the physical cores if not given.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Also write the record, every answer included, to this JSON file.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the record as JSON instead of tables.")] = False,
    plot: Annotated[Path | None, typer.Option(help="Also draw it, to a .svg or .png file.")] = None,
) -> None:
    """Measure speed and quality of the three ways of decoding, beside llama.cpp and transformers.

    Examples:

      mezzotint bench --engines ar,verify --prompts 10 --rounds 2 --questions 0

      mezzotint bench --out bench.json --plot bench.svg

    Every engine runs in a process of its own on the same prompts, greedily, one engine at a time: the prompts are dealt
    into rounds, and in each round every engine has its turn, so a disturbance hits all alike.  tokens/s is all tokens
    over all seconds, reading the prompt included.  The tables go to stdout, progress to stderr.  The whole run takes
    about half an hour on two cores, most of it in transformers; close other programs meanwhile.
    """
    from mezzotint.checkpoints import DEFAULT_MODEL
    from mezzotint.config import from_dict
    from mezzotint.evaluate.bench.benchmark import Bench
    from mezzotint.evaluate.bench.machine import physical_cores

    settings = {
        "model": model or DEFAULT_MODEL,
        "engines": _names(engines),
        "asked": _names(asked),
        "prompts": prompts,
        "new_tokens": new_tokens,
        "rounds": rounds,
        "questions": questions,
        "threads": physical_cores() if threads is None else threads,
    }
    record = measured(from_dict(Bench, settings), out, plot)
    if as_json:
        typer.echo(json.dumps(record, ensure_ascii=False))
    else:
        from rich.console import Console

        from mezzotint.evaluate.bench.report import tables

        Console().print(tables(record))


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def measured(settings: Any, out: Path | None, plot: Path | None) -> dict[str, Any]:
    """Run a `Bench`, with progress on stderr; write the record and the picture where asked."""
    from mezzotint.evaluate.bench import record
    from mezzotint.evaluate.bench.benchmark import run
    from mezzotint.evaluate.bench.plot import check, draw
    from mezzotint.extras import require

    require("torch", "mezzotint bench")
    if plot is not None:
        check(plot)
    for path in (out, plot):
        if path is not None:
            record.reserve(path)

    def save(made: dict[str, Any]) -> None:
        if out is not None:
            record.write(out, made)

    with _progress() as tell:
        made = run(settings, [sys.executable, "-m", "mezzotint.cli.bench_worker"], tell, save)
    if plot is not None:
        draw(made, plot)
    return made


@contextmanager
def _progress() -> Iterator[Callable[[str, int, int], None]]:
    """A bar on a terminal; elsewhere a line whenever something else is being done."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    if not sys.stderr.isatty():
        said = ""

        def say(what: str, done: int, total: int) -> None:
            nonlocal said
            if what != said:
                said = what
                print(f"{time.strftime('%H:%M:%S')} {done}/{total} {what}", file=sys.stderr, flush=True)  # noqa: T201

        yield say
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("starting", total=None)
        yield lambda what, done, total: progress.update(task, description=what, completed=done, total=total)
