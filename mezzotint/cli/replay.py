"""`mezzotint replay`: paint an answer again from the trace of it; no model is needed."""

from pathlib import Path
from typing import Annotated

import typer

from mezzotint.cli.generate import Live, Pace, Slow
from mezzotint.errors import ConfigError


def replay(
    trace: Annotated[Path, typer.Argument(help="What `mezzotint generate --trace FILE.jsonl` wrote.")],
    speed: Annotated[float, typer.Option(metavar="X", help="So many times as fast as it was written.")] = 1.0,
    slow: Slow = False,
    pace: Pace = None,
    live: Live = True,
) -> None:
    """Paint an answer again as it was written.

    Examples:

      mezzotint replay fruits.jsonl

      mezzotint replay fruits.jsonl --slow

      mezzotint replay fruits.jsonl --speed 0.1

    Where stdout is no terminal, the text comes at once.
    """
    from mezzotint.cli.display.live import Live as Canvas
    from mezzotint.cli.display.live import open_display, play, summary
    from mezzotint.cli.display.pacing import at_speed, checked_pace, every, waited
    from mezzotint.engine.trace import Trace
    from mezzotint.models.answer import Origin

    if not 0 < speed < float("inf"):
        raise ConfigError(f"cannot replay at {speed:g} times the speed: give --speed a number above 0")
    found, changes = Trace.read(trace), checked_pace(slow, pace)
    if changes is not None and speed != 1:
        raise ConfigError("--speed keeps the times of the trace and --pace has its own: give one of them")
    note = f"replayed at {changes:g} changes/s" if changes else f"replayed at {speed:g} x"
    before = found.header.get("before")
    display = open_display(found, live, before or "", note)
    clock = every(changes) if changes else at_speed(speed)
    events = [event for _, event in found.events]
    finished = play(waited(found.events, clock, display) if isinstance(display, Canvas) else events, display)
    if finished is not None:
        model, mode = found.header.get("model", {}).get("name", ""), str(found.header.get("mode", ""))
        causal, given = bool(found.header.get("causal")), int(found.header.get("given", 0))
        origin = Origin(mode, model, "", causal=causal, before=before, given=given)
        typer.secho(f"{model}, {mode}: {summary(finished, origin)}", dim=True, err=True)
