"""`mezzotint generate`: a prompt in, an answer out, the canvas visible on the way."""

import json
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from mezzotint.cli.options import Settings, spread
from mezzotint.errors import RequestError

if TYPE_CHECKING:
    from mezzotint.models.base import Model


@spread
def generate(
    prompt: Annotated[str, typer.Argument(help="What to answer; - reads it from stdin.", show_default=False)],
    settings: Settings,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object: the text, its tokens, times and forwards.")
    ] = False,
    live: Annotated[bool, typer.Option("--live/--no-live", help="Paint the canvas, if stdout is a terminal.")] = True,
) -> None:
    """Answer a prompt, continue a text, or fill its holes.

    Examples:

      mezzotint generate "Why is the sky blue?"

      mezzotint generate "Write a haiku about rain" --temperature 0.8 --seed 3

      mezzotint generate "Name three fruits" --mode diffusion --threshold 0.7

      mezzotint generate "the cat ___ on the mat" --model runs/smollm2-dream

      git diff | mezzotint generate - --system "Summarise this change in one sentence" --json

    The answer goes to stdout, the closing line of numbers to stderr.

    A model with a chat format answers the prompt, as one message of a chat; <|im_start|> and the like are plain text in
    it.  Other models continue it.  A diffusion model fills holes, written as underscores: three or more, one per token
    (DreamOn: any number of tokens; a run trained on a text of yours: every single underscore).
    """
    model = load_model(settings, live=live and not as_json)
    text = _prompt(prompt, may_be_empty=model.info.kind == "trained")
    filling = model.loaded.has_holes(text)
    if as_json:
        write = model.fill if filling else model.generate
        answer = write(text, **settings.writing())
        record = answer.to_dict() | {"load_seconds": round(model.load_seconds, 3)}
        sys.stdout.write(json.dumps(record, ensure_ascii=False) + "\n")
        return

    from mezzotint.cli.display.live import open_display, play, summary

    asked = model.asked(text, filling=filling, **settings.writing())
    display = open_display(model.tokenizer, live, before=asked.origin.before or "")
    finished = play(model.engine.submit(asked.request), display)
    if finished is not None:
        typer.secho(summary(finished, asked.origin), dim=True, err=True)


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


def _prompt(argument: str, *, may_be_empty: bool = False) -> str:
    if argument == "-":
        text = decode_utf8(sys.stdin.buffer.read(), "stdin").removesuffix("\n") if sys.stdin else ""
    else:
        # bytes of an argument that are no UTF-8 arrive as lone surrogates
        text = decode_utf8(argument.encode("utf-8", "surrogateescape"), "the prompt")
    if not text.strip() and not may_be_empty:
        raise RequestError("the prompt is empty: give some text, or - to read it from stdin")
    return text
