"""`mezzotint train` and `mezzotint recipes`."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from mezzotint.recipes import Recipe
    from mezzotint.train.loop import Outcome

Edits = Annotated[
    list[str] | None, typer.Option("--set", "-s", metavar="PATH=VALUE", help="Change one field; repeatable.")
]


def train(
    recipe: Annotated[
        str, typer.Argument(help="A recipe (see `mezzotint recipes`, or module:function), or the folder of a run.")
    ],
    edits: Edits = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the run; runs/RECIPE if not given.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the newest checkpoint in the folder.")] = False,
    export: Annotated[
        bool, typer.Option("--export", help="End a stopped run now: write its newest checkpoint as its model.")
    ] = False,
    show: Annotated[bool, typer.Option("--show", help="Explain every setting and stop.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print how it ended as JSON; with --show, the configuration.")
    ] = False,
) -> None:
    """Train a model by a recipe.

    Examples:

      mezzotint train mdlm-small --set data=my.txt

      mezzotint train mdlm-small --set data=my.txt --set train.max_minutes=10 --out runs/mine

      mezzotint train runs/mine --resume

      mezzotint train runs/mine --export

      mezzotint train mdlm-small --show

      mezzotint train my_package:recipe --set family=my_package:Focal

    Ctrl-C saves and stops; --resume goes on exactly there, --export makes an
    end of it.  What a run has learnt so far can be sampled at any time after
    its first checkpoint: mezzotint generate --model RUN.  The folder holds run.json (the configuration),
    metrics.jsonl, checkpoints and, at the end, what others load under export.
    """
    cfg, name, out = _asked(recipe, edits or [], out, resume=resume, export=export)
    if show:
        from mezzotint.config import to_json
        from mezzotint.recipes.explain import explained

        typer.echo(to_json(cfg) if as_json else explained(cfg))
        return

    from mezzotint.recipes import training

    outcome = training.train(cfg, out, name, resume=resume, export=export)
    _say(outcome, out, as_json)
    if outcome.signal:
        typer.echo(f"go on with mezzotint train {out} --resume, or end it with --export", err=True)
        raise typer.Exit(128 + outcome.signal)


def _asked(
    recipe: str, edits: list[str], out: Path | None, *, resume: bool, export: bool
) -> tuple["Recipe", str, Path]:
    """The settings, the name of the recipe and the folder of the run."""
    from mezzotint.errors import ConfigError
    from mezzotint.recipes import is_recipe, load

    if export and resume:
        raise ConfigError("a run either goes on or ends: give --resume or --export")
    if out is None:
        out = Path("runs") / recipe.rpartition(":")[2] if is_recipe(recipe) else Path(recipe)
    # a run goes on as it was begun, whatever the recipe says today
    known = (resume or export) and (out / "run.json").exists()
    if export and not known:
        raise ConfigError(f"there is no run in {out} to export: give the folder of one, or train it first")
    cfg, name = load(str(out) if known else recipe, edits, typed=[recipe])
    if is_recipe(recipe) and name != recipe:
        raise ConfigError(f"cannot go on with {recipe} in {out}: it holds a run of {name}")
    return cfg, name, out


def _say(outcome: "Outcome", out: Path, as_json: bool) -> None:
    results = {k: v for k, v in outcome.evaluation.items() if not isinstance(v, str)}
    facts = {"run": str(out), "reason": outcome.reason, "steps": outcome.step, "seconds": round(outcome.seconds, 1)}
    if as_json:
        typer.echo(json.dumps({**facts, **results}))
        return
    numbers = "  ".join(f"{name} {value:.4g}" for name, value in results.items())
    typer.echo(f"{out}: {outcome.reason} after {outcome.step} steps, {outcome.seconds:.0f} s  {numbers}".rstrip())


def recipes(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the recipes that `mezzotint train` knows."""
    from mezzotint.recipes import listed

    known = listed()
    if as_json:
        typer.echo(json.dumps(known, indent=2))
        return
    width = max(map(len, known))
    for name, about in known.items():
        typer.echo(f"{name:{width}}  {about}")
