"""A classifier of a model's noisy texts, on disk and at work: what steers that model without training it again."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from mezzotint.config import config, from_dict, to_dict
from mezzotint.data.attributes import Attribute
from mezzotint.decode.guidance.gradients import ClassifierEnergy
from mezzotint.denoisers.networks.embedding_network import NoisyTextClassifier
from mezzotint.denoisers.networks.small_transformer import TransformerConfig
from mezzotint.errors import CheckpointError, ConfigError, MezzotintError
from mezzotint.models.trained import TrainedModel, store
from mezzotint.plugins import kind_of


@config
class ClassifierConfig:
    """What is needed to build a judge again."""

    network: TransformerConfig
    attribute: Attribute
    width: int
    """Of the vectors it reads: embeddings, or one number per token of the vocabulary."""
    model: str
    """The model whose noise it knows: the checksum of its weights."""


@dataclass(frozen=True)
class TrainedClassifier:
    """Reads texts of a model at any time of its noise."""

    shape: ClassifierConfig
    network: NoisyTextClassifier

    @classmethod
    def fresh(cls, shape: ClassifierConfig) -> "TrainedClassifier":
        """A judge that knows nothing yet."""
        asked = shape.attribute
        return cls(shape, NoisyTextClassifier(shape.network, shape.width, asked.classes, tagging=asked.tagging))

    @classmethod
    def load(cls, folder: Path, model: Path) -> "TrainedClassifier":
        """What `save` wrote, for the model in another folder.

        Raises:
            CheckpointError: a file is missing or damaged, or the judge is one of another model.
        """
        try:
            record = json.loads((folder / "config.json").read_text(encoding="utf-8"))
            if record["kind"] != "judge":
                raise CheckpointError("it holds no judge")
            judge = cls.fresh(from_dict(ClassifierConfig, record["shape"]))
            judge.network.load_state_dict(load_file(folder / "model.safetensors"))
        except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError, MezzotintError) as error:
            problem = error.strerror if isinstance(error, OSError) else str(error)
            said = problem.splitlines()[0] if problem else type(error).__name__
            raise CheckpointError(
                f"cannot read the judge in {folder}, train one by mezzotint train judge-small: {said}"
            ) from None
        if judge.shape.model != checksum(model):
            raise CheckpointError(f"the judge in {folder} was taught on another model than {model}: train one on it")
        judge.network.eval().requires_grad_(False)
        return judge

    def save(self, folder: Path, weights: nn.Module) -> None:
        """Write weights and all that is needed to load them.

        Raises:
            CheckpointError: the disk refuses; a judge that was there before is unharmed.
        """
        store(folder, weights, {"kind": "judge", "shape": to_dict(self.shape)})

    def wish(self, value: str, rows: int, columns: int) -> Tensor:
        """Long[B] or Long[B, L]: what a value asks of every text; `ClassifierEnergy` reads it."""
        labels = torch.tensor([self.shape.attribute.wanted(value, columns)]).expand(rows, -1)
        return labels if self.shape.attribute.tagging else labels[:, 0]

    def chances(self, labels: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """log p(labels | x_t), Float[B]: a `LogLikelihood`; x_t may be more rows than labels of one text."""
        x = x_t if x_t.is_floating_point() else F.one_hot(x_t, self.shape.width).float()
        return -ClassifierEnergy(self.network, labels[:1].expand(len(x), *labels.shape[1:]))(x, t)


def reads(model: TrainedModel) -> int:
    """How wide the vectors of a judge of this model are."""
    return getattr(model.family.process, "width", model.vocabulary.vocab)


def guidable(model: TrainedModel) -> None:
    """Refuse a family whose step classifiers cannot change.

    Raises:
        ConfigError: such a family.
    """
    if model.family.moments is None and model.family.chances is None:
        raise ConfigError(
            f"{kind_of(model.shape.family)} cannot be guided by judges: take mdlm, udlm, diffusion_lm or sed"
        )


def checksum(folder: Path) -> str:
    """Of the weights of a model.

    Raises:
        CheckpointError: there are none.
    """
    try:
        return hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    except OSError as error:
        raise CheckpointError(f"cannot read the model in {folder} ({error.strerror}): train it first") from None
