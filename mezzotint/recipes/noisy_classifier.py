"""Classifiers of a model's noisy texts: what steers that model towards a length, or a kind for every column.

A judge reads any time of the noise of one model (Diffusion-LM, 2205.14217, sec. 5.1; D-CBG, 2412.10193, sec. 3.2).
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from pydantic import Field
from torch import nn

from mezzotint.config import config, to_dict
from mezzotint.data.attributes import Attribute, Length, Marked
from mezzotint.data.characters import Pages, Windows
from mezzotint.data.corpus import Corpus, find
from mezzotint.denoisers.networks.small_transformer import TransformerConfig
from mezzotint.errors import ConfigError
from mezzotint.models.classifier import ClassifierConfig, TrainedClassifier, checksum, guidable, reads
from mezzotint.models.run_folder import exported
from mezzotint.models.trained import TrainedModel
from mezzotint.objectives.base import Objective
from mezzotint.objectives.embedding_denoising import Labelled, Labels
from mezzotint.objectives.noisy_classifier import NoisyLabels
from mezzotint.processes.gaussian import Gaussian
from mezzotint.rng import Rng
from mezzotint.train.device import pick_device
from mezzotint.train.optim import WSD, Optim
from mezzotint.train.task import Task, Train


@config
class ClassifierTraining:
    """The whole run."""

    model: str = ""
    """The run whose texts are judged; required."""
    data: str = ""
    """The text, or the corpus, that the run learned from; required."""
    attribute: Attribute = Length()
    """length: words of a text; kinds: what stands in every column."""
    rows: int = Field(default=32, gt=0)
    """Windows per micro-batch."""
    network: TransformerConfig
    train: Train

    def build(self) -> Task:
        """Read model and text and make a fresh judge.

        Raises:
            ConfigError: no model or no text, a text of another vocabulary, or a family whose step cannot be guided.
            CheckpointError: a damaged model.
        """
        if not self.model or not self.data:
            raise ConfigError("a judge needs a model and its text: pass --set model=runs/NAME --set data=my.txt")
        folder = exported(Path(self.model))
        if not (folder / "config.json").is_file():
            raise ConfigError(f"there is no model in {self.model}: train one with mezzotint train first")
        model = TrainedModel.load(folder)
        guidable(model)
        corpus = find(self.data, model.shape.length, model.vocabulary)
        torch.manual_seed(self.train.seed)
        attribute = self.attribute.fitted(corpus.train.ids, model.shape.length, model.vocabulary)
        known = checksum(folder)
        judge = TrainedClassifier.fresh(
            ClassifierConfig(network=self.network, attribute=attribute, width=reads(model), model=known)
        )
        model.network.requires_grad_(False)
        model.family.process.to(pick_device(self.train.device))
        process = model.family.process
        objective = (
            Labels(cast(Gaussian, process)) if model.family.moments else NoisyLabels(process, model.vocabulary.vocab)
        )
        windows = Windows(corpus.train.ids, model.shape.length, self.rows)
        data = Marked(windows, attribute, model.vocabulary, Labelled)
        exam = _Exam(judge, objective, model, corpus)
        asked = {"model": known, "attribute": to_dict(attribute), "text": corpus.facts}
        identity = hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()
        return Task(judge.network, objective, data, exam.evaluate, exam.export, identity)


@dataclass(frozen=True)
class _Exam:
    judge: TrainedClassifier
    objective: Objective
    model: TrainedModel
    corpus: Corpus

    def evaluate(self, network: nn.Module) -> dict[str, float | str]:
        """Held-out text at times from all over the noise."""
        held, length = self.corpus.valid.ids, self.model.shape.length
        rows = min(64, len(held) // length)
        page = Pages(held, length, rows).batch(0)
        labels = self.judge.shape.attribute.labels(page.tokens, self.model.vocabulary)
        device = next(network.parameters()).device
        page = Labelled(page.tokens.to(device), page.target.to(device), labels=labels.to(device))
        loss = self.objective(network, page, Rng(0, 0))
        return {"cross_entropy": float(loss.total), "accuracy": float(loss.metrics["accuracy"])}

    def export(self, network: nn.Module, folder: Path) -> None:
        """The judge as `mezzotint guide --want` reads it."""
        self.judge.save(folder, network)


def judge() -> ClassifierTraining:
    """Two minutes on a CPU core."""
    train = Train(steps=600, eval_every=200, optim=Optim(lr=2e-3, shape=WSD(decay=0.8)), save_minutes=None)
    return ClassifierTraining(network=TransformerConfig(width=64, layers=2, heads=2, timed=True), train=train)
