"""`mezzotint generate`: a prompt in, an answer out, the canvas visible on the way; or a file of prompts."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mezzotint.cli.options import Settings, spread
from mezzotint.errors import ConfigError, RequestError

if TYPE_CHECKING:
    from mezzotint.engine.trace import TraceWriter
    from mezzotint.models.base import Model

_SEEING = "Seeing it"
_FILES = "Prompts from a file"
_FILES_ALONE = (
    "--input FILE.jsonl takes the place of a prompt, and --output is for it: leave out the prompt, --json, --samples, "
    "--slow, --pace and --trace"
)

Live = Annotated[
    bool,
    typer.Option("--live/--no-live", help="Paint the canvas, if stdout is a terminal.", rich_help_panel=_SEEING),
]
Slow = Annotated[bool, typer.Option("--slow", help="Slowed down for the eye.", rich_help_panel=_SEEING)]
Pace = Annotated[
    float | None,
    typer.Option(metavar="N", help="Slowed down to N changes of the canvas a second (8).", rich_help_panel=_SEEING),
]
TraceFile = Annotated[
    Path | None,
    typer.Option(metavar="FILE.jsonl", help="Record every event, for `mezzotint replay`.", rich_help_panel=_SEEING),
]
Samples = Annotated[int, typer.Option(metavar="N", help="Answers, with seeds S, S + 1, ...", min=1)]
Input = Annotated[
    str | None,
    typer.Option(
        "--input", metavar="FILE.jsonl", help="Answer every line of a file; - is stdin.", rich_help_panel=_FILES
    ),
]
Output = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE.jsonl",
        help="A line for every line of --input, in order; one that is cut short goes on (stdout).",
        rich_help_panel=_FILES,
    ),
]


@spread
def generate(
    settings: Settings,
    prompt: Annotated[
        str | None, typer.Argument(help="What to answer; - reads it from stdin.", show_default=False)
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object a line: the text, its tokens, times and forwards.")
    ] = False,
    samples: Samples = 1,
    live: Live = True,
    slow: Slow = False,
    pace: Pace = None,
    trace: TraceFile = None,
    source: Input = None,
    output: Output = None,
) -> None:
    """Answer a prompt, continue a text, or fill its holes.

    Examples:

      mezzotint generate "Write a haiku about rain" --temperature 0.8 --seed 3 --samples 4

      mezzotint generate "Name three fruits" --mode diffusion --slow --trace fruits.jsonl

      mezzotint generate "the cat ___ on the mat" --model runs/smollm2-dream

      git diff | mezzotint generate - --system "Summarise this change in one sentence" --json

      mezzotint generate --input prompts.jsonl --output answers.jsonl

    The answer goes to stdout, the closing line of numbers to stderr.

    A model with a chat format answers the prompt, as one message of a chat; <|im_start|> and the like are plain text in
    it.  Other models continue it.  A diffusion model fills holes, written as underscores: three or more, one per token
    (DreamOn: any number of tokens; a run trained on a text of yours: every single underscore).

    A line of --input is a string, {"prompt": ...} or {"messages": [...]}, with "id" and options such as "seed" beside
    it.  Lines that cannot be answered are named, their line of the output says why, and the exit code is 2.
    """
    from mezzotint.cli.display.pacing import checked_pace

    showing = Showing(live, checked_pace(slow, pace), trace)
    if source is not None or output is not None:
        alone = prompt is None and samples == 1 and not (showing.asked or as_json)
        _write_file(settings, source if alone else None, output)
        return
    if as_json and showing.asked:
        raise ConfigError("--json paints nothing: leave out --slow, --pace and --trace, or --json")
    if prompt is None:
        raise RequestError("the prompt is empty: give some text, - to read it from stdin, or --input FILE.jsonl")
    model = load_model(settings, live=live and not as_json)
    text = _prompt(prompt, may_be_empty=model.info.kind == "trained")
    if as_json:
        print_json(model, text, settings.writing(), samples)
        return
    for number in range(samples):
        if number:
            sys.stdout.write("\n")
        show(model, text, seeded(settings.writing(), number), showing)


@dataclass(frozen=True)
class Showing:
    """How an answer is shown."""

    live: bool
    pace: float | None = None
    """Changes of the canvas a second; None shows them as they come."""
    trace: Path | None = None

    @property
    def asked(self) -> bool:
        """Whether anything but the usual is asked for."""
        return self.pace is not None or self.trace is not None

    @property
    def note(self) -> str:
        """For the canvas."""
        return "" if self.pace is None else f"slowed down to {self.pace:g} changes/s"


def show(model: "Model", text: str, options: dict[str, Any], showing: Showing) -> None:
    """Paint an answer, and say in a line what it took."""
    from mezzotint.cli.display.live import open_display, summary
    from mezzotint.cli.display.pacing import perform

    asked = model.asked(text, filling=model.wants_filling(text), **options)
    before = asked.origin.before or ""
    with _recording(model, text, options, showing.trace, asked.origin) as trace:
        display = open_display(model.tokenizer, showing.live, before, showing.note)
        finished = perform(model.engine.submit(asked.request), display, pace=showing.pace, trace=trace)
    if finished is not None:
        typer.secho(summary(finished, asked.origin), dim=True, err=True)


def print_json(model: "Model", text: str, options: dict[str, Any], samples: int) -> None:
    """An object a line and sample; all samples are under way at once."""
    from mezzotint.errors import MezzotintError
    from mezzotint.models.many import answers

    each = [seeded(options, number) for number in range(samples)]
    asked = [model.asked(text, filling=model.wants_filling(text), **one) for one in each]
    for answer, one in zip(answers(model.engine, asked), each, strict=True):
        if isinstance(answer, MezzotintError):
            raise answer
        record = answer.to_dict() | {"seed": one["seed"], "load_seconds": round(model.load_seconds, 3)}
        sys.stdout.write(json.dumps(record, ensure_ascii=False) + "\n")


def seeded(options: dict[str, Any], number: int) -> dict[str, Any]:
    """The same options with the seed of a sample."""
    return {**options, "seed": options.get("seed", 0) + number}


def load_model(settings: Settings, live: bool) -> "Model":
    """The model, behind a plate of noise while it loads."""
    from mezzotint.cli.display.live import plate

    with plate(f"loading {settings.model}", live):
        return settings.load()


def decode_utf8(data: bytes, what: str) -> str:
    """Raises RequestError with the place of the first byte that is not UTF-8."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise RequestError(
            f"{what} is not valid UTF-8 (byte {error.start} is 0x{data[error.start]:02x}): convert it, "
            "for example with iconv -t utf-8"
        ) from None


@contextmanager
def _recording(
    model: "Model", text: str, options: dict[str, Any], path: Path | None, origin: Any
) -> "Iterator[TraceWriter | None]":
    if path is None:
        yield None
        return
    from mezzotint._version import VERSION
    from mezzotint.engine.trace import TraceWriter

    try:
        out = path.open("w", encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"cannot write the trace {path} ({error.strerror}): give another --trace") from None
    about = {name: value for name, value in model.info.to_dict().items() if name != "source"}  # a path of this machine
    header = {"by": f"mezzotint {VERSION}", "model": about, "mode": origin.mode, "prompt": text}
    header |= {"options": options, "before": origin.before, "given": origin.given, "causal": origin.causal}
    with out:
        yield TraceWriter(out, header, model.tokenizer.stream)


def _write_file(settings: Settings, source: str | None, output: Path | None) -> None:
    from mezzotint.cli.prompt_files import read_lines, write_file

    if source is None:
        raise ConfigError(_FILES_ALONE)
    lines = read_lines(source)  # before anything heavy is loaded
    refused = write_file(load_model(settings, live=False), lines, output, settings.writing())
    if refused:
        raise RequestError(f"{refused} of the lines could not be answered: their output says why")


def _prompt(argument: str, *, may_be_empty: bool = False) -> str:
    if argument == "-":
        text = decode_utf8(sys.stdin.buffer.read(), "stdin").removesuffix("\n") if sys.stdin else ""
    else:
        # bytes of an argument that are no UTF-8 arrive as lone surrogates
        text = decode_utf8(argument.encode("utf-8", "surrogateescape"), "the prompt")
    if not text.strip() and not may_be_empty:
        raise RequestError("the prompt is empty: give some text, or - to read it from stdin")
    return text
