"""All that a package outside this one needs to add a schedule, a process, a family, a decoding method or a recipe.

docs/extending.md walks through it.  What is not here is free to change.
"""

from mezzotint.config import config
from mezzotint.decode.canvas import Canvas, Span, Step
from mezzotint.decode.generation import Generation
from mezzotint.decode.methods.presets import Preset
from mezzotint.decode.methods.registry import Method
from mezzotint.decode.rule import Rule, ancestral
from mezzotint.decode.run import MaskedModel
from mezzotint.decode.samplers.time_grid import TimeGrid
from mezzotint.families import AnyFamily
from mezzotint.families.base import Family, FamilyRecord
from mezzotint.families.mdlm import mdlm, subs
from mezzotint.objectives.base import Loss, Objective
from mezzotint.objectives.denoising import Denoising
from mezzotint.plugins import import_plugin, kind_of
from mezzotint.processes.absorbing import Absorbing
from mezzotint.processes.base import Discrete, Process
from mezzotint.processes.gaussian import Gaussian
from mezzotint.processes.uniform import Uniform
from mezzotint.recipes import Recipe
from mezzotint.recipes.from_scratch import Small, small
from mezzotint.recipes.training import train
from mezzotint.rng import Rng, draw
from mezzotint.schedules import Schedule, Survival

__all__ = [
    "Absorbing",
    "AnyFamily",
    "Canvas",
    "Denoising",
    "Discrete",
    "Family",
    "FamilyRecord",
    "Gaussian",
    "Generation",
    "Loss",
    "MaskedModel",
    "Method",
    "Objective",
    "Preset",
    "Process",
    "Recipe",
    "Rng",
    "Rule",
    "Schedule",
    "Small",
    "Span",
    "Step",
    "Survival",
    "TimeGrid",
    "Uniform",
    "ancestral",
    "config",
    "draw",
    "import_plugin",
    "kind_of",
    "mdlm",
    "small",
    "subs",
    "train",
]
