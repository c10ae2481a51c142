"""Recipes: named, complete configurations of training runs.

A recipe is a function that returns a record with two things the trainer needs: a field `train: Train`, and `build()`,
which makes the task.  To add one, write the function in a module here and name it in `RECIPES`; those of other packages
go by the name of an entry point, or as module:function (docs/extending.md).
"""

import difflib
from collections.abc import Collection
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from pydantic.dataclasses import is_pydantic_dataclass

from mezzotint.config import from_dict, load_run, override
from mezzotint.errors import ConfigError, PluginError
from mezzotint.extras import require
from mezzotint.plugins import find, registered

if TYPE_CHECKING:
    from mezzotint.train.task import Task, Train


@runtime_checkable
class Recipe(Protocol):
    """The record of one training run."""

    @property
    def train(self) -> "Train":
        """How long, how fast and how carefully to train."""
        ...

    def build(self) -> "Task":
        """Load the data and make the network; the slow part."""
        ...


@dataclass(frozen=True)
class RecipeEntry:
    """Where a recipe is, and what it is in one line."""

    target: str
    """module:function, below mezzotint.recipes."""
    about: str


RECIPES = {
    "smollm2-hybrid": RecipeEntry(
        "hybrid_drafter:smollm2_hybrid", "the default model's diffusion adapter, on two CPU cores"
    ),
    "smollm2-hybrid-gpu": RecipeEntry(
        "hybrid_drafter:smollm2_hybrid_gpu", "the same on a large GPU: longer drafts, more answers"
    ),
    "smollm2-diffullama": RecipeEntry(
        "from_causal:diffullama", "the default model, attention annealed from causal to full"
    ),
    "smollm2-dream": RecipeEntry("from_causal:dream", "the default model, full attention at once, weights by context"),
    "smollm2-sdar": RecipeEntry("from_causal:sdar", "the default model, turned into one that writes block by block"),
    "smollm2-fast-dllm": RecipeEntry("from_causal:fast_dllm", "the same in blocks that keep the causal model's shift"),
    "smollm2-efficient-dlm": RecipeEntry("from_causal:efficient_dlm", "the same, the last masks at a block's end"),
    "smollm2-wedlm": RecipeEntry(
        "from_causal:wedlm", "the default model, causal still, decided tokens read before masks"
    ),
    "smollm2-idlm": RecipeEntry(
        "from_causal:idlm", "the default model, causal still, that drafts and judges its drafts"
    ),
    "ar-small": RecipeEntry("from_scratch:ar", "the autoregressive baseline of the families below"),
    "mdlm-small": RecipeEntry("from_scratch:mdlm", "masked diffusion from scratch on a text of yours, in two minutes"),
    "bd3lm-small": RecipeEntry("from_scratch:bd3lm", "the same, block by block"),
    "bd3lm-medium": RecipeEntry(
        "from_scratch:bd3lm_medium", "the same, one size up, four subwords at a time, in twenty minutes"
    ),
    "d3pm-absorbing-small": RecipeEntry("from_scratch:d3pm_absorbing", "D3PM into masks"),
    "d3pm-uniform-small": RecipeEntry("from_scratch:d3pm_uniform", "D3PM among all tokens"),
    "flow-mask-small": RecipeEntry("from_scratch:flow_mask", "discrete flow matching from masks"),
    "flow-uniform-small": RecipeEntry("from_scratch:flow_uniform", "discrete flow matching from random tokens"),
    "remdm-small": RecipeEntry("from_scratch:remdm", "masked diffusion whose sampler takes tokens back"),
    "sedd-absorbing-small": RecipeEntry("from_scratch:sedd_absorbing", "score entropy, into masks"),
    "sedd-uniform-small": RecipeEntry("from_scratch:sedd_uniform", "score entropy, among all tokens"),
    "udlm-small": RecipeEntry("from_scratch:udlm", "uniform diffusion in continuous time"),
    "gidd-small": RecipeEntry("from_scratch:gidd", "masks and random tokens at once"),
    "duo-small": RecipeEntry("from_scratch:duo", "uniform diffusion after lessons on its Gaussian twin"),
    "diffusion-bert-small": RecipeEntry("from_scratch:diffusion_bert", "masks that take rare tokens first"),
    "diffusion-bert-minilm": RecipeEntry(
        "from_scratch:diffusion_bert_minilm", "the same from a pretrained encoder, ten minutes"
    ),
    "diffusion-lm-small": RecipeEntry("from_scratch:diffusion_lm", "Gaussian noise on embeddings that learn along"),
    "sed-small": RecipeEntry("from_scratch:sed", "Gaussian noise on fixed embeddings, self-conditioned"),
    "edit-flow-small": RecipeEntry("from_scratch:edit_flow", "texts of any length, by insertions"),
    "flexmdm-small": RecipeEntry(
        "from_scratch:flexmdm", "masked diffusion that inserts its masks: texts of any length"
    ),
    "judge-small": RecipeEntry("noisy_classifier:judge", "a classifier of a run's noisy texts, for mezzotint guide"),
}


def compared() -> dict[str, str]:
    """Families that a league compares, by name, and their recipes: every recipe `*-small` that trains from scratch."""
    return {
        name.removesuffix("-small"): name
        for name, entry in RECIPES.items()
        if entry.target.startswith("from_scratch:") and name.endswith("-small")
    }


def listed() -> dict[str, str]:
    """Every recipe by name, with what it is in one line; those of other packages behind, not imported."""
    others = {
        name: f"{point.value} of the package {point.dist.name}"
        for name, point in registered("recipes").items()
        if point.dist
    }
    return {name: entry.about for name, entry in RECIPES.items()} | others


def is_recipe(name: str) -> bool:
    """Whether a name is that of a recipe, rather than of a folder."""
    return name in RECIPES or (not Path(name).exists() and (":" in name or name in registered("recipes")))


def load(name: str, edits: list[str] | tuple[str, ...] = (), typed: Collection[str] = ()) -> tuple[Recipe, str]:
    """The record of a recipe, or of the run.json of a former run, with edits; and the recipe's name.

    `typed` are names that the user gave by hand besides this one: what a file names is imported only then (plugins.py).

    Raises:
        ConfigError: no such recipe or run record, or edits that do not fit.
    """
    if not is_recipe(name) and (name.endswith(".json") or Path(name).is_dir()):
        path = Path(name)
        record = load_run(path / "run.json" if path.is_dir() else path)
        name = str(record.get("recipe"))
        found = _found(name, typed)
        kind = found if isinstance(found, type) else type(_made(name, found))
        return override(from_dict(kind, record["config"], typed), edits), name
    return override(_made(name, _found(name, [*typed, name])), edits), name


def _found(name: str, typed: Collection[str]) -> Any:
    """The function, class or record that a name stands for."""
    if name in RECIPES:
        require("torch", "training")
        module, _, function = RECIPES[name].target.partition(":")
        return getattr(import_module(f"mezzotint.recipes.{module}"), function)
    found = find("recipes", name, typed)
    if found is None:
        known = [*RECIPES, *registered("recipes")]
        close = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(known)}"
        raise ConfigError(f"no recipe is called {name!r}: {hint}")
    return found


def _made(name: str, found: Any) -> Recipe:
    made = found() if callable(found) else found
    if not (isinstance(made, Recipe) and is_pydantic_dataclass(type(made))):
        raise PluginError(
            f"{name} is no recipe: it has to give a record under mezzotint.extending.config with train and build()"
        )
    return made
