"""`mezzotint generate`: a prompt in, an answer out, the canvas visible on the way."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mezzotint.cli.options import Settings, spread
from mezzotint.errors import RequestError

if TYPE_CHECKING:
    from mezzotint.api import Model


@spread
def generate(
    prompt: Annotated[str, typer.Argument(help="What to answer; - reads it from stdin.", show_default=False)],
    settings: Settings,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object: the text, its tokens, times and forwards.")
    ] = False,
    live: Annotated[bool, typer.Option("--live/--no-live", help="Paint the canvas, if stdout is a terminal.")] = True,
) -> None:
    """Answer a prompt.

    Examples:

      mezzotint generate "Why is the sky blue?"

      mezzotint generate "Write a haiku about rain" --temperature 0.8 --seed 3

      mezzotint generate "Name three fruits" --mode diffusion --rule threshold --level 0.7

      mezzotint generate "the cat ___ on the mat" --model runs/mdlm-small

      git diff | mezzotint generate - --system "Summarise this change in one sentence" --json

    The answer goes to stdout, the closing line of numbers to stderr.

    The prompt becomes one message of a chat, and <|im_start|> and the like
    are plain text in it.

    A model that `mezzotint train` made continues the prompt, or fills its
    holes, written as underscores, one per token; DreamOn gives ___ any number.
    """
    from mezzotint.models.run_folder import model_folder

    if (folder := model_folder(Path(settings.model))) is not None:
        from mezzotint.cli.scratch import write

        text, steps = _prompt(prompt, may_be_empty=True), 32 if settings.steps is None else settings.steps
        write(folder, text, settings, steps=steps, as_json=as_json, live=live)
        return
    text = _prompt(prompt)
    from mezzotint.cli import adapted, published

    for kind in (adapted, published):
        if (folder := kind.folder_of(settings.model, settings.family)) is not None:
            kind.write(folder, text, settings, as_json=as_json, live=live)
            return
    messages: list[dict[str, str]] | str = text
    if settings.system is not None:
        messages = [{"role": "system", "content": settings.system}, {"role": "user", "content": text}]
    if as_json:
        answer = load_model(settings, live=False).generate(messages, **settings.writing())
        sys.stdout.write(json.dumps(answer.to_dict(), ensure_ascii=False) + "\n")
        return

    from mezzotint.cli.display.live import open_display, play, summary

    model = load_model(settings, live)
    events = model.stream(messages, **settings.writing())
    finished = play(events, open_display(model.tokenizer, live))
    if finished is not None:
        typer.secho(summary(finished), dim=True, err=True)


def load_model(settings: Settings, live: bool) -> "Model":
    """The model, behind a plate of noise while it loads; options that it has no use for are refused first."""
    settings.check()
    from mezzotint.cli.display.live import plate

    with plate(f"loading {settings.model}", live):
        from mezzotint import api

        return api.load(settings.model, backend=settings.backend, threads=settings.threads)


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
