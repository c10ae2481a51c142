"""Texts of a model that judges guide, whatever its noise: gradients on vectors, chances of tokens."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from mezzotint.decode.canvas import Canvas
from mezzotint.decode.guidance.classifier import ClassifierGuided, FreeGuided, both, every, expanded
from mezzotint.decode.guidance.gradients import ClassifierEnergy, GradientGuided
from mezzotint.decode.guidance.minimum_bayes_risk import most_agreed
from mezzotint.decode.rule import Rule
from mezzotint.decode.samplers.embedding_canvas import Noting
from mezzotint.decode.samplers.time_grid import TimeGrid
from mezzotint.denoisers.wrappers import ClassConditioned, ClassifierFree
from mezzotint.errors import ConfigError
from mezzotint.models.classifier import TrainedClassifier, guidable
from mezzotint.models.trained import TrainedModel
from mezzotint.plugins import kind_of
from mezzotint.processes.gaussian import Gaussian


@dataclass(frozen=True)
class ClassifierGuidance:
    """How strongly judges are heard, and how those of tokens are asked."""

    strength: float = 1.0
    """Of every judge: the power of its probability, or the weight of its nats against the model's own mean."""
    exact: bool = False
    """Ask a judge about every token of every column in place of its slope; for families of tokens."""


def rule_of(
    model: TrainedModel, canvas: Canvas, wishes: Sequence[tuple[TrainedClassifier, Tensor]], how: ClassifierGuidance
) -> Rule:
    """The family's step, guided towards labels Long[B] or Long[B, L] that `TrainedClassifier.wish` made.

    Raises:
        ConfigError: a family whose step cannot be guided, or several texts where tokens are guided.
    """
    family = model.family
    if not wishes:
        assert family.rule is not None
        return family.rule
    if family.moments is not None:
        energies = [ClassifierEnergy(judge.network, labels, how.strength) for judge, labels in wishes]
        # steps that are normal are those of vectors
        steered = GradientGuided(family.moments, cast(Gaussian, family.process).round, energies)
        # a canvas that notes the network's last answers goes on doing so
        return Noting(steered) if canvas.notes else steered
    guidable(model)
    assert family.chances is not None
    if canvas.tokens.shape[0] > 1:
        raise ConfigError("judges of tokens guide one text a time")

    def said(x_t: Tensor, t: Tensor) -> Tensor:
        return torch.stack([judge.chances(labels, x_t, t) for judge, labels in wishes]).sum(0)

    return TimeGrid(ClassifierGuided(family.chances, said, how.strength, every if how.exact else expanded))


def scaled(model: TrainedModel, scale: float) -> None:
    """Guidance without a classifier: how strongly given columns, and the last estimate, are followed.

    Raises:
        ConfigError: a network that was not trained without its conditions as well.
    """
    if model.shape.told is not None:
        raise ConfigError("--scale says how strongly --told counts: give both")
    if not isinstance(model.network, ClassifierFree):
        kind = kind_of(model.shape.family)
        raise ConfigError(f"--scale is for networks trained with and without conditions, as sed's: {kind} has none")
    model.network.scale = scale


def samples(
    model: TrainedModel,
    columns: Sequence[int | None],
    steps: int,
    seeds: Sequence[int],
    wishes: Sequence[tuple[TrainedClassifier, str]],
    how: ClassifierGuidance,
) -> list[Canvas]:
    """A text per seed, from the same columns."""
    found: list[Canvas] = []
    for seed in seeds:
        canvas = model.canvas([columns], seed)
        asked = [(judge, judge.wish(value, 1, canvas.tokens.shape[1])) for judge, value in wishes]
        *_, last = model.decode(canvas, steps, rule_of(model, canvas, asked, how))
        found.append(last)
    return found


def class_conditional(
    model: TrainedModel, columns: Sequence[int | None], steps: int, seeds: Sequence[int], value: str, scale: float
) -> list[Canvas]:
    """A text per seed from a network that hears what the text is to be: D-CFG (2412.10193, sec. 3).

    Args:
        value: what `--told` says, such as a number of words.
        scale: gamma; 1 is the class alone, above 1 more of it.

    Raises:
        ConfigError: a network that was never told anything.
    """
    attribute, chances = model.shape.told, model.family.chances
    if attribute is None or chances is None:
        raise ConfigError("this run was never told what its texts are: train mdlm or udlm with --set told=length")
    rule = TimeGrid(FreeGuided(chances, scale))
    found: list[Canvas] = []
    for seed in seeds:
        canvas = model.canvas([columns], seed)
        labels = torch.tensor(attribute.wanted(value, canvas.tokens.shape[1]))
        read = model.form.reader
        *_, last = model.decode(
            canvas, steps, rule, both(read(ClassConditioned(model.network, labels)), read(model.network))
        )
        found.append(last)
    return found


@dataclass(frozen=True)
class Wish:
    """What became of a wish in one text."""

    wish: str
    """As it was said."""
    met: bool
    """Whether the text itself has what was asked for."""
    share: float
    """How much of it: 1 or 0, or the share of columns."""
    found: str
    """What the text has, in words."""
    probability: float | None
    """What the judge gives it; of columns their geometric mean; None where no judge was asked."""

    def line(self) -> str:
        """In one line."""
        said = "" if self.probability is None else f"; the judge is {self.probability:.0%} sure"
        return f"{self.wish}: {'met' if self.met else 'not met'} ({self.found}){said}"


def became(model: TrainedModel, canvas: Canvas, wish: str, judge: TrainedClassifier | None, value: str) -> Wish:
    """Whether the one text on a canvas has what was asked for, by what it is and by what its judge sees.

    Args:
        model: which wrote it.
        canvas: of one text, after its last step.
        wish: as it was said.
        judge: None for what a network was told.
        value: what it is to see.
    """
    attribute = model.shape.told if judge is None else judge.shape.attribute
    assert attribute is not None
    tokens = model.form.written(canvas)[0]
    share, found = attribute.met(value, tokens, model.vocabulary)
    probability = None
    if judge is not None:
        labels = judge.wish(value, 1, canvas.tokens.shape[1])
        read = canvas.tokens if canvas.latent is None else canvas.latent
        with torch.no_grad():
            nats = judge.chances(labels, read, torch.zeros(1, 1))
        probability = float((nats / max(int((labels >= 0).sum()), 1)).exp())
    return Wish(wish, share == 1, share, found, probability)


def agreed(model: TrainedModel, canvases: Sequence[Canvas]) -> int:
    """Which text agrees most with the others (Diffusion-LM, 2205.14217, sec. 5.3)."""
    return most_agreed([model.form.written(canvas)[0].tolist() for canvas in canvases])
