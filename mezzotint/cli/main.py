"""`mezzotint`: one verb per module, each loaded when it is asked for.

Exit codes: 0 done, 1 failure, 2 bad input, 130 interrupted, 141 closed pipe.
"""

import difflib
import os
import sys
from importlib import import_module
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text
from typer.core import TyperGroup

from mezzotint._version import VERSION
from mezzotint.errors import MezzotintError
from mezzotint.extras import EXTRAS, missing

VERBS = {
    "generate": "mezzotint.cli.generate:generate",
    "replay": "mezzotint.cli.replay:replay",
    "guide": "mezzotint.cli.guide:guide",
    "chat": "mezzotint.cli.chat:chat",
    "models": "mezzotint.cli.models:app",
    "convert": "mezzotint.cli.convert:convert",
    "train": "mezzotint.cli.train:train",
    "recipes": "mezzotint.cli.train:recipes",
    "runs": "mezzotint.cli.runs:runs",
    "evaluate": "mezzotint.cli.evaluate:evaluate",
    "bench": "mezzotint.cli.bench:bench",
    "data": "mezzotint.cli.data:app",
    "league": "mezzotint.cli.league:league",
}


class Stopped(Exception):
    """The user or the reader of our output has gone; carries the exit code past the handlers of the library."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class Verbs(TyperGroup):
    """A group that imports a verb's module only to show or run that verb."""

    def list_commands(self, ctx: Any) -> list[str]:
        """The verbs, in the order of the help."""
        return list(VERBS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The verb's command; None if there is no such verb."""
        if cmd_name not in VERBS:
            return None
        module, _, attribute = VERBS[cmd_name].partition(":")
        verb = getattr(import_module(module), attribute)
        if not isinstance(verb, typer.Typer):
            alone = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
            alone.command(cmd_name)(verb)
            verb = alone
        command = typer.main.get_command(verb)
        command.name = cmd_name
        return command

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The verb and its arguments; a mistyped verb is told the nearest one."""
        if args and args[0] not in VERBS and (close := difflib.get_close_matches(args[0], VERBS, n=1, cutoff=0.7)):
            ctx.fail(f"No such command {args[0]!r}. Did you mean {close[0]!r}?")
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        """Run a verb; Ctrl-C and a reader that went away become exit codes."""
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
            return result
        except KeyboardInterrupt:
            raise Stopped(130) from None
        except BrokenPipeError:
            # what is still buffered has no reader; without this the interpreter complains on its way out
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise Stopped(141) from None


# typer carries click's exceptions under a name that differs between its versions
Misused: type[Exception] = next(
    kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException" and issubclass(kind, Exception)
)

app = typer.Typer(
    cls=Verbs,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},  # verbs inherit them
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"mezzotint {VERSION}")
        raise typer.Exit


@app.callback()
def root(
    plugins: Annotated[
        list[str] | None,
        typer.Option("--import", metavar="MODULE", help="Import a module whose families and methods files may name."),
    ] = None,
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print it.")] = False,
) -> None:
    """Diffusion language models on a laptop: generate, chat, train and measure.

    Results go to stdout, progress to stderr.  Start with: mezzotint generate "Why is the sky blue?"
    """
    if plugins:
        from mezzotint.plugins import import_plugin

        for module in plugins:
            import_plugin(module)


def main() -> None:
    """Run the command line and exit."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run one command line; the exit code."""
    try:
        code = app(arguments, prog_name="mezzotint", standalone_mode=False)
    except MezzotintError as error:
        _say(str(error))
        return error.exit_code
    except ModuleNotFoundError as error:
        if error.name not in EXTRAS:
            raise
        lacking = missing(error.name, " ".join(["mezzotint", *arguments[:1]]))
        _say(str(lacking))
        return lacking.exit_code
    except Misused as error:
        return _misused(error)
    except Stopped as stopped:
        return stopped.code
    except SystemExit as done:
        code = done.code
    return code if isinstance(code, int) else 0


def _misused(error: Any) -> int:
    """What was wrong with the words of a command line, and where to read about them; all of it where there are none."""
    context: Any = getattr(error, "ctx", None)
    if type(error).__name__ == "NoArgsIsHelpError":
        # where typer paints the help it is printed by being asked for, and nothing is left to print
        typer.echo(context.get_help(), nl=False)
    else:
        command = "mezzotint" if context is None else context.command_path
        message = error.format_message().rstrip(".")
        _say(f"{message} See {command} --help" if message.endswith("?") else f"{message}: see {command} --help")
    return error.exit_code


def _say(sentence: str) -> None:
    Console(stderr=True, highlight=False).print(Text(sentence, style="red"), soft_wrap=True)


if __name__ == "__main__":
    main()
