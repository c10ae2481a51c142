"""A model trained from scratch on one text: a network, its family and its vocabulary, on disk and at work."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from mezzotint.config import config, from_dict, override, to_dict, write_json
from mezzotint.data.attributes import Length
from mezzotint.data.corpus import Vocabulary, vocabulary_of
from mezzotint.decode.canvas import Canvas
from mezzotint.decode.loop import Denoise, decode
from mezzotint.decode.rule import Rule
from mezzotint.denoisers.networks.bert import Bert, BertConfig
from mezzotint.denoisers.networks.trunk import Trunk
from mezzotint.errors import CheckpointError, ConfigError, MezzotintError, PluginError, RequestError
from mezzotint.families import AnyFamily
from mezzotint.families.base import Family
from mezzotint.families.forms.tokens import CanvasForm, Tokens
from mezzotint.models.run_folder import KIND, read_record
from mezzotint.train import checkpoint
from mezzotint.train.run_files import is_whole

HOLE = "_"
"""Stands for a column to be written, in prompts and in texts that are not finished."""


@config
class TrainedConfig:
    """What is needed to build a model again."""

    network: Trunk
    """The trunk; the family puts around it what its texts need."""
    family: AnyFamily
    length: int
    """Columns of the texts that it was trained on, the longest it writes."""
    told: Length | None = None
    """What the network may be told of a text."""
    encoder: BertConfig | None = None
    """Of a published encoder that training began with, instead of `network`."""


@dataclass(frozen=True)
class TrainedModel:
    """The model."""

    shape: TrainedConfig
    vocabulary: Vocabulary
    network: nn.Module
    family: Family

    @classmethod
    def fresh(cls, shape: TrainedConfig, vocabulary: Vocabulary) -> "TrainedModel":
        """A model that knows nothing yet; torch's seed decides its weights."""
        family = shape.family.build(vocabulary.vocab, vocabulary.mask_id)
        if shape.encoder is not None:
            return cls(shape, vocabulary, Bert(shape.encoder), family)
        return cls(shape, vocabulary, form_of(family).network(shape.network, vocabulary.vocab), family)

    @property
    def form(self) -> CanvasForm:
        """How its texts lie on a canvas."""
        return form_of(self.family)

    @classmethod
    def load(cls, folder: Path, edits: Sequence[str] = ()) -> "TrainedModel":
        """What `save` wrote, or a checkpoint of a run (models/run_folder.py).

        `edits` change settings of its family that only its sampler reads, such as "eta=0".

        Raises:
            CheckpointError: a file is missing, damaged, or of another shape.
            ConfigError: edits that do not fit.
            PluginError: its family is of a package that is missing or was not asked for.
        """
        try:
            record = read_record(folder)
            model = cls.fresh(from_dict(TrainedConfig, record["shape"]), vocabulary_of(record["vocabulary"]))
            _fill(model.network, folder)
        except PluginError:
            raise
        except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError, MezzotintError) as error:
            # torch and pydantic say in a list what is wrong: its first entry is enough
            said = [line.strip() for line in str(error).splitlines()[:2]]
            problem = f"a file lacks {error}" if isinstance(error, KeyError) else " ".join(said)
            raise CheckpointError(
                f"cannot read the model in {folder}, train or export it again: {problem or type(error).__name__}"
            ) from None
        model.network.eval()
        return model.edited(edits) if edits else model

    def edited(self, edits: Sequence[str]) -> "TrainedModel":
        """The same weights under other settings of the family, such as "eta=0", which may not change what it learns.

        Raises:
            ConfigError: edits that do not fit, or that ask for another network.
        """
        shape = override(self.shape, [f"family.{edit}" for edit in edits])
        model = self.fresh(shape, self.vocabulary)
        try:
            model.network.load_state_dict(self.network.state_dict())
        except RuntimeError:
            raise ConfigError(
                f"{', '.join(edits)} would need other weights: only samplers' settings can change"
            ) from None
        model.network.eval()
        return model

    def save(self, folder: Path, weights: nn.Module | None = None) -> None:
        """Write weights, those of `weights` where they are kept apart, and all that is needed to load them.

        Raises:
            CheckpointError: the disk refuses; a model that was there before is unharmed.
        """
        store(folder, weights or self.network, self._record())

    def describe(self, network: nn.Module, folder: Path) -> None:
        """Write what the checkpoints in a folder lack of the model: its record, and what training leaves as it is.

        Raises:
            CheckpointError: the disk refuses.
        """
        trained = checkpoint.trainable(network)
        frozen = {name: value.contiguous() for name, value in network.state_dict().items() if name not in trained}
        try:
            save_file(frozen, folder / "frozen.safetensors")
            write_json(folder / "config.json", self._record())
        except OSError as error:
            raise CheckpointError(f"cannot write {folder}: {error}; make room and begin again") from None

    def _record(self) -> dict[str, Any]:
        return {"kind": KIND, "shape": to_dict(self.shape), "vocabulary": self.vocabulary.to_dict()}

    @torch.no_grad()
    def decode(
        self, canvas: Canvas, steps: int, rule: Rule | None = None, denoise: Denoise | None = None
    ) -> Iterator[Canvas]:
        """The canvas after each step of a rule, the family's own if not given; blocks share `steps` out.

        `denoise` is what the rule reads, the network's own answers if not given.
        """
        # a generator: a function that returned one would leave the gradients on while it is walked through
        how = rule or self.family.rule
        assert how is not None, "families that are trained from scratch have a sampler"
        yield from decode(canvas, denoise or self.form.reader(self.network), how, self.form.plan(canvas, steps))

    def blank(self, rows: int, length: int | None = None, seed: int = 0) -> Canvas:
        """A canvas of nothing but noise."""
        return self.canvas([[None] * (length or self.shape.length)] * rows, seed)

    def canvas(self, rows: Sequence[Sequence[int | None]], seed: int = 0) -> Canvas:
        """Tokens given, and None where one is to be written."""
        return self.form.canvas(rows, [seed + row for row in range(len(rows))])

    def texts(self, canvas: Canvas) -> list[str]:
        """What stands on a canvas; undecided columns show as an underscore."""
        blank = self.form.blank
        rows = self.form.written(canvas).tolist()
        return [self.vocabulary.decode([token for token in row if token != blank]) for row in rows]

    def columns(self, text: str) -> list[int | None]:
        """The tokens of a text, and None for every hole in it; raises VocabularyError as `prompt`."""
        columns: list[int | None] = []
        for number, piece in enumerate(text.split(HOLE)):
            columns += ([None] if number else []) + self.vocabulary.encode(piece).tolist()
        return columns

    def prompt(self, text: str, new: int | None) -> list[int | None]:
        """Columns of a prompt with holes, followed by `new` open ones, or as many as fit where there is no hole.

        Raises:
            RequestError: a prompt that is too long, or asks for nothing.
            VocabularyError: a character that the model has never seen.
        """
        columns = self.columns(text)
        free = self.shape.length - len(columns)
        if new is None:
            new = 0 if None in columns else free
        if free < 0:
            raise RequestError(
                f"the prompt has {len(columns)} tokens and this model reads at most {self.shape.length}: shorten it"
            )
        if new > free:
            raise RequestError(
                f"the prompt has {len(columns)} tokens and {new} more are asked for: this model writes at most "
                f"{self.shape.length} altogether"
            )
        columns += [None] * new
        size = self.family.block or 1
        columns += [None] * (-len(columns) % size)
        if None not in columns and not free:
            raise RequestError(
                f"the prompt fills all {self.shape.length} columns of this model: shorten it, or leave a hole ({HOLE})"
            )
        if None not in columns:
            raise RequestError(f"there is nothing to write: leave a hole ({HOLE}) in the text or ask for more tokens")
        return columns


def store(folder: Path, weights: nn.Module, record: dict[str, Any]) -> None:
    """Write weights, and beside them in config.json what is needed to load them.

    Raises:
        CheckpointError: the disk refuses; a model that was there before is unharmed.
    """
    fresh = folder / ".model.safetensors"
    try:
        save_file({name: value.contiguous() for name, value in weights.state_dict().items()}, fresh)
        write_json(folder / "config.json", record)
        fresh.replace(folder / "model.safetensors")
    except (OSError, SafetensorError) as error:
        fresh.unlink(missing_ok=True)
        raise CheckpointError(f"cannot write the model to {folder}: {error}; make room and go on") from None


def _fill(network: nn.Module, folder: Path) -> None:
    """Put the weights in a folder or checkpoint, averaged ones where there are any, into a network of its shape.

    Raises CheckpointError for a checkpoint of another network, and what reading files raises.
    """
    if not is_whole(folder):
        network.load_state_dict(load_file(folder / "model.safetensors"))
        return
    network.load_state_dict(load_file(folder.parent / "frozen.safetensors"), strict=False)
    checkpoint.load_weights(folder, network)


def form_of(family: Family) -> CanvasForm:
    """How a family's texts lie on a canvas."""
    return family.form or Tokens(family.process.prior, block=family.block)


def facts(model: TrainedModel) -> dict[str, Any]:
    """What a model is, in plain values: its family with its settings, its size, what it reads."""
    family = to_dict(model.shape)["family"]
    return {
        "family": family.pop("kind"),
        # neither occurrences of every id nor where the family comes from are settings
        "settings": {name: value for name, value in family.items() if name not in ("counts", "package")},
        "parameters": sum(p.numel() for p in model.network.parameters()),
        "vocabulary": model.vocabulary.vocab,
        "mask_id": model.vocabulary.mask_id,
        "most_columns": model.shape.length,
        "block": model.family.block,
    }
