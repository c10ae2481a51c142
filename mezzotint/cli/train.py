"""`mezzotint train` and `mezzotint recipes`."""

import json
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

Edits = Annotated[
    list[str] | None, typer.Option("--set", "-s", metavar="PATH=VALUE", help="Change one field; repeatable.")
]


def train(
    recipe: Annotated[str, typer.Argument(help="A recipe (see `mezzotint recipes`), or the folder of a run.")],
    edits: Edits = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the run; runs/RECIPE if not given.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the newest checkpoint in the folder.")] = False,
    show: Annotated[bool, typer.Option("--show", help="Print the whole configuration and stop.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print how it ended as JSON.")] = False,
) -> None:
    """Train a model by a recipe.

    Examples:

      mezzotint train mdlm-small --set data=my.txt

      mezzotint train mdlm-small --set data=my.txt --set train.max_minutes=10 --out runs/mine

      mezzotint train runs/mine --resume

    Ctrl-C saves and stops; --resume goes on exactly there.  The folder holds run.json (the configuration),
    metrics.jsonl, checkpoints and, at the end, what others load under export.
    """
    from mezzotint.config import to_json
    from mezzotint.errors import ConfigError
    from mezzotint.recipes import RECIPES, load

    edits = edits or []
    if out is None:
        out = Path("runs") / recipe if recipe in RECIPES else Path(recipe)
    # a run goes on as it was begun, whatever the recipe says today
    source = str(out) if resume and (out / "run.json").exists() else recipe
    cfg, name = load(source, edits)
    if recipe in RECIPES and name != recipe:
        raise ConfigError(f"cannot go on with {recipe} in {out}: it holds a run of {name}")
    if show:
        typer.echo(to_json(cfg))
        return

    from mezzotint.train.loop import run
    from mezzotint.train.run_record import open_run, refuse_another

    refuse_another(out, resume=resume)
    task = cfg.build()
    # what cannot be built, or does not go on, leaves the folder as it was for the corrected command
    opened = partial(open_run, out, cfg, name, resume=resume)
    outcome = run(task, cfg.train, out, title=name, resume=resume, opened=opened)
    results = {k: v for k, v in outcome.evaluation.items() if not isinstance(v, str)}
    facts = {"run": str(out), "reason": outcome.reason, "steps": outcome.step, "seconds": round(outcome.seconds, 1)}
    if as_json:
        typer.echo(json.dumps({**facts, **results}))
    else:
        numbers = "  ".join(f"{name} {value:.4g}" for name, value in results.items())
        typer.echo(f"{out}: {outcome.reason} after {outcome.step} steps, {outcome.seconds:.0f} s  {numbers}".rstrip())
    if outcome.signal:
        typer.echo(f"go on with mezzotint train {out} --resume", err=True)
        raise typer.Exit(128 + outcome.signal)


def recipes(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the recipes that `mezzotint train` knows."""
    from mezzotint.recipes import RECIPES

    if as_json:
        typer.echo(json.dumps({name: entry.about for name, entry in RECIPES.items()}, indent=2))
        return
    width = max(map(len, RECIPES))
    for name, entry in RECIPES.items():
        typer.echo(f"{name:{width}}  {entry.about}")
