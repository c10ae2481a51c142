"""`mezzotint chat`: a conversation, streamed."""

import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from mezzotint.cli.generate import decode_utf8, load_model
from mezzotint.cli.options import MODES, Settings, spread
from mezzotint.errors import MezzotintError
from mezzotint.models.hybrid import DIFFUSION, NEW_TOKENS

if TYPE_CHECKING:
    from mezzotint.models.base import Model

HELP = """\
/help            this list
/clear           forget the conversation
/mode MODE       write by verify, ar or diffusion from now on
/system TEXT     how the model should behave; forgets the conversation
/quit            leave (so does Ctrl-D)
//...            a message that begins with a slash
Ctrl-C stops an answer."""


@spread
def chat(
    settings: Settings,
    live: Annotated[bool, typer.Option("--live/--no-live", help="Paint the canvas, if stdout is a terminal.")] = True,
) -> None:
    """Talk with the model.

    Type a message and Enter; /help lists the commands.  Ctrl-C stops an answer, Ctrl-D leaves.

    Examples:

      mezzotint chat

      mezzotint chat --system "You are a pirate" --temperature 0.7

      printf 'Name a colour.\\nAnd another?\\n' | mezzotint chat

    When stdin is no terminal, every line is one message and only answers go to stdout.
    """
    at_terminal = sys.stdin is not None and sys.stdin.isatty()
    model = load_model(settings, live)
    conversation = Conversation(model, settings, live)
    if at_terminal:
        _note(f"{model.name}, {conversation.way}; /help lists the commands, Ctrl-D leaves")
    for line in _typed() if at_terminal else _piped():
        if line.startswith("/") and not line.startswith("//"):
            if not conversation.command(line):
                break
        elif line.strip():
            try:
                conversation.say(line.removeprefix("/"))
            except MezzotintError as error:
                if not at_terminal:
                    raise
                typer.secho(str(error), fg="red", err=True)
            except KeyboardInterrupt:
                if not at_terminal:
                    raise
                _note("stopped")


class Conversation:
    """Messages so far and how to answer the next one."""

    def __init__(self, model: "Model", settings: Settings, live: bool) -> None:
        self._model = model
        self._settings = settings
        self._live = live
        self._options = replace(settings.options, system=None)
        self._system = settings.options.system
        self._messages: list[dict[str, str]] = []
        self._turn = 0

    @property
    def way(self) -> str:
        """How it writes, in words."""
        info = self._model.info
        if info.modes:
            return f"{self._options.mode or info.modes[0]} mode"
        return f"preset {self._options.preset or info.presets[0]}" if info.presets else info.family

    def say(self, text: str) -> None:
        """Answer a message; what was written before an interruption stays in the conversation.

        Raises:
            RequestError: the message alone is longer than the context.
        """
        from mezzotint.cli.display.live import open_display, play, summary

        self._messages.append({"role": "user", "content": text})
        try:
            self._make_room()
            # another seed for every turn, or the same question would always be answered alike
            options = replace(self._options, seed=(self._options.seed + self._turn) % 2**63)
            asked = self._model.loaded.answering(self.prompt(), options)
            events = self._model.engine.submit(asked.request)
            display = open_display(self._model.tokenizer, self._live)
        except BaseException:
            self._messages.pop()
            raise
        try:
            finished = play(events, display)
        finally:
            self._turn += 1
            if display.text.strip():
                self._messages.append({"role": "assistant", "content": display.text})
            else:
                # two messages of one side in a row are no conversation
                self._messages.pop()
        if finished is not None:
            _note(summary(finished, asked.origin))

    def command(self, line: str) -> bool:
        """Obey a line that begins with a slash; False to leave."""
        name, _, rest = line[1:].partition(" ")
        rest = rest.strip()
        match name:
            case "quit" | "exit" | "q":
                return False
            case "help" | "?" | "h":
                _note(HELP)
            case "clear":
                self._messages.clear()
                _note("the conversation is forgotten")
            case "mode":
                self._change_mode(rest)
            case "system":
                self._system = rest or None
                self._messages.clear()
                _note("the model starts anew with these instructions" if rest else "the model starts anew")
            case _:
                _note(f"there is no command /{name}: /help lists them, // begins a message with a slash")
        return True

    def _change_mode(self, mode: str) -> None:
        if not mode:
            _note(f"{self.way}; /mode {'|'.join(self._model.info.modes or MODES)} changes it")
            return
        unset = {} if mode == "diffusion" else dict.fromkeys(DIFFUSION)
        try:
            changed = replace(self._options, mode=mode, **unset)
            self._model.loaded.answering("x", changed)
        except MezzotintError as error:
            _note(str(error))
            return
        self._options = changed
        _note(f"from now on by {mode}")

    def prompt(self) -> list[dict[str, str]]:
        """The messages that the next answer will see."""
        return [*([{"role": "system", "content": self._system}] if self._system else []), *self._messages]

    def _make_room(self) -> None:
        """Drop the oldest turns until the prompt leaves room for an answer."""
        context = self._model.context
        room = min(self._options.max_new_tokens or NEW_TOKENS, context // 2)
        dropped = 0
        while len(self._messages) > 2 and len(self._model.tokenizer.chat(self.prompt())) + room > context:
            del self._messages[:2]
            dropped += 1
        if dropped:
            turns = "oldest turn" if dropped == 1 else f"{dropped} oldest turns"
            _note(f"the {turns} no longer fit the context of {context} tokens and left the conversation")


def _typed() -> Iterator[str]:
    """Lines typed at a terminal, until Ctrl-D; Ctrl-C there only clears the line."""
    with suppress(ImportError):
        import readline  # noqa: F401  # editing and history come with the import
    while True:
        try:
            yield _ask()
        except EOFError:
            _note("")
            return
        except KeyboardInterrupt:
            _note("\nCtrl-D or /quit leaves")
        except UnicodeDecodeError:
            typer.secho("that line is not valid UTF-8 and was not sent", fg="red", err=True)


def _ask() -> str:
    if sys.stdout.isatty():
        # \001 and \002 tell readline that the colour takes no room on the line
        return input("\001\x1b[1m\002> \001\x1b[0m\002")
    # the prompt is no part of a result that goes to a file
    typer.secho("> ", bold=True, err=True, nl=False)
    return input()


def _piped() -> Iterator[str]:
    if sys.stdin is None:
        return
    for number, line in enumerate(sys.stdin.buffer, 1):
        yield decode_utf8(line, f"line {number} of stdin").rstrip("\r\n")


def _note(text: str) -> None:
    typer.secho(text, dim=True, err=True)
