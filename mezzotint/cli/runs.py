"""`mezzotint runs`: the runs that there are, compared and drawn."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from mezzotint.train.overview import RunSummary


def runs(
    folders: Annotated[
        list[Path] | None, typer.Argument(help="Runs, or a folder with runs below it; runs if not given.")
    ] = None,
    compare: Annotated[
        bool, typer.Option("--compare", help="Only settings that differ, and figures, side by side.")
    ] = False,
    curves: Annotated[bool, typer.Option("--curves", help="Draw each run's loss or bound in the terminal.")] = False,
    plot: Annotated[Path | None, typer.Option(help="Draw them into one .svg or .png file.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List runs of `mezzotint train`: how far they are, and their best and last figure.

    The figure is bits per character of held-out text where a run measures it, else its loss.

    Examples:

      mezzotint runs

      mezzotint runs runs/mdlm-small runs/bd3lm-small --compare

      mezzotint runs runs/mdlm-small --curves --plot curve.svg
    """
    from mezzotint.cli.display import curves as drawing
    from mezzotint.evaluate.bench.plot import check
    from mezzotint.train.overview import curve, differences, runs_below, summary

    if plot is not None:
        check(plot)
    found = list(dict.fromkeys(run for folder in folders or [Path("runs")] for run in runs_below(folder)))
    summaries = [summary(run) for run in found]
    different = differences(found) if compare else {}
    if as_json:
        record: dict[str, Any] = {"runs": [each.to_dict() for each in summaries]}
        typer.echo(json.dumps(record | ({"differences": different} if compare else {}), indent=2, ensure_ascii=False))
    elif compare:
        _side_by_side(summaries, different)
    else:
        _list(summaries)
    lines = {run: curve(run) for run in found} if curves or plot else {}
    for run, (name, steps, values) in lines.items() if curves and not as_json else ():
        typer.echo("\n".join([f"\n{run}  {name}", *(drawing.drawn(steps, values) or ["  not enough steps yet"])]))
    if plot is not None:
        names = " / ".join(dict.fromkeys(name for name, _, _ in lines.values())).replace("_", " ")
        drawing.picture([(str(run), steps, values) for run, (_, steps, values) in lines.items()], names, plot)


def _list(summaries: "Sequence[RunSummary]") -> None:
    heads = ["run", "recipe", "family", "state", "steps", "minutes", "best", "last", "figure", "started", "size"]
    _table(
        heads,
        [
            [
                each.path,
                each.recipe,
                each.family or "-",
                each.state,
                _of(each.step, each.steps),
                _of(each.minutes, each.most_minutes),
                _number(each.best),
                _number(each.last),
                (each.figure or "-").replace("_", " "),
                (each.started or "-")[:16].replace("T", " "),
                f"{each.bytes / 1e6:.1f} MB",
            ]
            for each in summaries
        ],
    )


def _side_by_side(summaries: "Sequence[RunSummary]", different: dict[str, list[Any]]) -> None:
    heads = ["", *(each.path for each in summaries)]
    rows = [[name, *(json.dumps(value) for value in values)] for name, values in different.items()]
    rows += [
        [name, *(str(getattr(each, name)) for each in summaries)] for name in ("state", "step", "minutes", "figure")
    ]
    rows += [[name, *(_number(getattr(each, name)) for each in summaries)] for name in ("best", "last", "loss")]
    _table(heads, rows)


def _of(done: float, whole: float | None) -> str:
    return f"{done:g}" if whole is None else f"{done:g} of {whole:g}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _table(heads: list[str], rows: list[list[str]]) -> None:
    """A table drawn only for people: a pipe gets tabs."""
    if not sys.stdout.isatty():
        typer.echo("\n".join("\t".join(row) for row in [heads, *rows]))
        return
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(*heads, box=box.SIMPLE_HEAD)
    for row in rows:
        table.add_row(*row)
    Console(markup=False).print(table)
