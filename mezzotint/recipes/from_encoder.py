"""Models that begin with what a published encoder knows: all of its weights, or the vectors of its word pieces."""

from dataclasses import dataclass, replace
from pathlib import Path

import torch

from mezzotint.checkpoints.encoder import MINILM, encoder
from mezzotint.data.corpus import Vocabulary
from mezzotint.data.subwords import Subwords
from mezzotint.denoisers.networks.bert import Bert, load_bert
from mezzotint.errors import ConfigError
from mezzotint.families import SED
from mezzotint.models.trained import TrainedConfig, TrainedModel
from mezzotint.processes.gaussian import Gaussian

STARTED = ("diffusion_bert", "mdlm", "remdm", "sed")
"""Families that ask a network of both sides and without a time for p(x_0 | x_t), and one that takes embeddings."""


@dataclass(frozen=True)
class PublishedEncoder:
    """A published encoder and its word pieces."""

    network: Bert
    vocabulary: Subwords

    @classmethod
    def of(cls, name: str) -> "PublishedEncoder":
        """The encoder that a package carries, by its name, or the one in a folder.

        Raises:
            ConfigError: neither.
            CheckpointError: another architecture, or damaged files.
            VocabularyError: no tokenizer beside the weights, or one without [MASK].
        """
        if name != MINILM.name and not Path(name).is_dir():
            raise ConfigError(f"there is no encoder {name!r}: give {MINILM.name}, or a folder with its weights")
        folder = encoder() if name == MINILM.name else Path(name)
        return cls(load_bert(folder), Subwords.published(folder / "tokenizer.json"))

    def model(self, shape: TrainedConfig, vocabulary: Vocabulary) -> TrainedModel:
        """A model of this vocabulary, which knows what the encoder knows as far as its family can use it."""
        if isinstance(shape.family, SED):
            return self._embedded(shape, shape.family, vocabulary)
        family = shape.family.build(vocabulary.vocab, vocabulary.mask_id)
        return TrainedModel(replace(shape, encoder=self.network.shape), vocabulary, self.network, family)

    def _embedded(self, shape: TrainedConfig, family: SED, vocabulary: Vocabulary) -> TrainedModel:
        """The encoder's embeddings, frozen, under a fresh network (SED, 2211.04236, sec. 3.1)."""
        vectors = self.network.embed.weight.detach()
        model = TrainedModel.fresh(replace(shape, family=replace(family, width=vectors.shape[1])), vocabulary)
        process = model.family.process
        assert isinstance(process, Gaussian)
        with torch.no_grad():
            for here, there in zip(process.parameters(), family.on(vectors[: process.vocab]).parameters(), strict=True):
                here.copy_(there)
        return model
