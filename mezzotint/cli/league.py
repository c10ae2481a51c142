"""`mezzotint league`: every family on the same text, compared."""

import json
from pathlib import Path
from typing import Annotated

import typer

from mezzotint.errors import ConfigError


def league(
    corpus: Annotated[str, typer.Option(help="A corpus of `mezzotint data build`, or a text file.")] = "letters",
    families: Annotated[str, typer.Option(help="Which take part, separated by commas; all if not given.")] = "",
    seeds: Annotated[str, typer.Option(help="Seeds, separated by commas; each trains a model per family.")] = "0",
    steps: Annotated[int, typer.Option(help="Optimiser steps of every model; the judge gets twice as many.")] = 2000,
    edits: Annotated[
        list[str] | None,
        typer.Option("--set", "-s", metavar="PATH=VALUE", help="Change every model, such as network.width=256."),
    ] = None,
    out: Annotated[Path, typer.Option(help="Where models and results are kept; run again to go on.")] = Path(
        "runs/league"
    ),
    plot: Annotated[Path | None, typer.Option(help="Also draw it, to a .svg or .png file.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the record as JSON instead of the table.")] = False,
) -> None:
    """Train every family with equal trunk, tokens and optimiser, and compare them.

    Examples:

      mezzotint data build letters

      mezzotint league --plot league.svg

      mezzotint league --families ar,mdlm,bd3lm --seeds 0,1,2 --steps 10000

      mezzotint league --corpus my.txt --steps 500 --out runs/mine

    Every model reports bits per character on held-out text (for all but ar an upper bound), how an independent
    autoregressive judge likes its samples at several numbers of steps, always beside their entropy, how well it fills
    a hole in the middle of a text, and its speed.  Results are kept piece by piece: an interrupted league goes on where
    it stopped, and one with a family or a seed more trains only what is missing.
    """
    from mezzotint.config import from_dict, write_json
    from mezzotint.league.play import FAMILIES, League, play
    from mezzotint.league.standings import draw, markdown

    if steps < 1:
        raise ConfigError(f"a league of {steps} steps teaches nothing: give --steps 1 or more")
    if plot is not None:
        _check_picture(plot)
    settings = {
        "corpus": corpus,
        "families": [name.strip() for name in families.split(",") if name.strip()] or list(FAMILIES),
        "seeds": _seeds(seeds),
        "steps": steps,
        "edits": edits or [],
    }
    try:
        record = play(from_dict(League, settings), out, lambda said: typer.echo(said, err=True))
    except KeyboardInterrupt:
        typer.echo("stopped: give the same command again to go on from here", err=True)
        raise
    write_json(out / "league.json", record)
    table = markdown(record)
    (out / "league.md").write_text(table, encoding="utf-8")
    if plot is not None:
        draw(record, plot)
    typer.echo(json.dumps(record, indent=2, ensure_ascii=False) if as_json else table)


def _seeds(text: str) -> list[int]:
    """Raises ConfigError for anything but whole numbers."""
    seeds = [seed.strip() for seed in text.split(",") if seed.strip()]
    if not all(seed.isdecimal() for seed in seeds):
        raise ConfigError(f"cannot use the seeds {text!r}: give whole numbers from 0 up, separated by commas")
    return [int(seed) for seed in seeds]


def _check_picture(plot: Path) -> None:
    """Raises ConfigError where the picture could not be written once the training is over."""
    from mezzotint.evaluate.bench.plot import check

    check(plot)
    try:
        plot.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"cannot write {plot} ({error.strerror}): choose another place for the picture") from None
