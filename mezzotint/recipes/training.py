"""A recipe put to work: what `mezzotint train` does, from Python."""

from functools import partial
from pathlib import Path

from mezzotint.recipes import Recipe
from mezzotint.recipes.card import write_card
from mezzotint.train import loop
from mezzotint.train.run_record import open_run, refuse_another


def train(
    recipe: Recipe, out: str | Path, name: str | None = None, *, resume: bool = False, export: bool = False
) -> loop.Outcome:
    """Train a record such as `small(MDLM())` into the folder of a run.

    Args:
        recipe: settings, with objects of your own classes in them if you like.
        out: the folder; it must not hold a run unless `resume` or `export` is set.
        name: what run.json calls the recipe; the record's class if not given.
        resume: go on from the newest checkpoint.
        export: write the newest checkpoint as the run's model, and end.

    Raises:
        ConfigError: settings that do not fit, or a folder that holds a run.
        CheckpointError: a checkpoint that does not fit, or a disk that refuses.
        TrainingError: a loss that is no longer finite.
    """
    out, kind = Path(out), type(recipe)
    title = name or f"{kind.__module__}:{kind.__qualname__}"
    refuse_another(out, resume=resume or export)
    task = recipe.build()
    if export:
        outcome = loop.export(task, recipe.train, out, title=title)
    else:
        # what cannot be built, or does not go on, leaves the folder as it was for the corrected command
        opened = partial(open_run, out, recipe, title, resume=resume)
        outcome = loop.run(task, recipe.train, out, title=title, resume=resume, opened=opened)
    if outcome.reason != "interrupted":
        write_card(out)
    return outcome
