"""A model that `mezzotint train` made from scratch, behind the interface of all models."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from mezzotint.batch import Batch
from mezzotint.data.corpus import Vocabulary
from mezzotint.decode.canvas import Canvas
from mezzotint.decode.generation import Generation, Row, Written
from mezzotint.engine.canvas_writer import Begun, CanvasWriter
from mezzotint.engine.request import Request, Sampling
from mezzotint.engine.transcript import Pieces
from mezzotint.errors import ConfigError, RequestError
from mezzotint.families.base import objective_of
from mezzotint.models.answer import Origin
from mezzotint.models.base import Asked, Bound
from mezzotint.models.info import ModelInfo
from mezzotint.models.options import Options
from mezzotint.models.trained import HOLE, TrainedModel
from mezzotint.models.trained_writing import shaped
from mezzotint.objectives.bits import measure
from mezzotint.plugins import kind_of

STEPS = 32
"""Denoising steps of a text where nobody says how many."""
MOST_STEPS = 10_000
"""Far beyond what changes a text; a larger number is a slip that would run for hours."""


TAKES = frozenset({"steps", "temperature", "top_p"})


class TrainedRun(Generation):
    """One text of a family's own sampler."""

    def __init__(self, model: TrainedModel, columns: Sequence[int | None], planned: "Planned", seed: int) -> None:
        self.model, self.count, self.stop = model, planned.steps, ()
        self.denoise = shaped(model, planned.temperature, planned.top_p)
        self.canvas, self.valid, self.reads = model.canvas([list(columns)], seed), None, []
        self.length = len(columns)
        # samplers of most families change what they have written until the last step
        self.final = 0

    def steps(self) -> Iterator[Canvas]:
        for canvas in self.model.decode(self.canvas, self.count, denoise=self.denoise):
            self.reads.append(canvas.tokens.shape[1])
            self.canvas = canvas
            yield canvas

    def result(self) -> Written:
        """What is written by now; the text is all of it."""
        return Written([self.row().tokens], self.canvas, None, self.reads)

    def row(self, index: int = 0) -> Row:
        """The text as it stands, columns that hold nothing left out."""
        form = self.model.form
        tokens = form.written(self.canvas)[index].tolist()
        open_, scores = self.canvas.open[index].tolist(), self.canvas.score[index].tolist()
        if len(open_) != len(tokens) or form.blank is not None:
            tokens = [token for token in tokens if token != form.blank]
            return Row(tokens, [True] * len(tokens), [0.0] * len(tokens))
        return Row(tokens, open_, [0.0 if o else s for o, s in zip(open_, scores, strict=True)])


class VocabularyCodec:
    """A vocabulary of ours as text in and out."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.vocabulary = vocabulary

    def encode(self, text: str) -> list[int]:
        """Raises VocabularyError for a character that the model has never seen."""
        return self.vocabulary.encode(text).tolist()

    def decode(self, ids: Sequence[int]) -> str:
        """Text of ids; undecided columns show as an underscore."""
        return self.vocabulary.decode(list(ids))

    def stream(self) -> Pieces:
        """A decoder for ids that arrive a few at a time."""
        return _Growing(self)


class _Growing:
    """All ids so far are decoded again: texts are short, and subwords join only as a whole."""

    def __init__(self, codec: VocabularyCodec) -> None:
        self._codec, self._ids, self._said = codec, [], ""

    def push(self, ids: Any) -> str:
        self._ids += [ids] if isinstance(ids, int) else list(ids)
        return self.flush()

    def flush(self) -> str:
        text = self._codec.decode(self._ids)
        new, self._said = text[len(self._said) :], text
        return new


@dataclass(frozen=True)
class Planned:
    """How a request is written."""

    steps: int
    """Denoising steps."""
    end: int | None
    """The column behind the text; None where it fills its canvas."""
    temperature: float = 1.0
    """Of p(x_0 | x_t), from which the family's own step draws."""
    top_p: float = 1.0


class LoadedTrained:
    """The model, and its writer."""

    def __init__(self, model: TrainedModel, folder: Path) -> None:
        self.model, self.folder = model, folder
        self.tokenizer = VocabularyCodec(model.vocabulary)
        self.writer = CanvasWriter(self._begun, self._check)
        self.info = self._described()

    def _described(self) -> ModelInfo:
        model = self.model
        weights = list(model.network.parameters())
        return ModelInfo(
            name=self.folder.name if self.folder.name != "export" else self.folder.parent.name,
            kind="trained",
            family=kind_of(model.shape.family),
            source=str(self.folder),
            backend="torch",
            context=model.shape.length,
            vocabulary=model.vocabulary.vocab,
            parameters=sum(weight.numel() for weight in weights),
            memory_bytes=sum(weight.numel() * weight.element_size() for weight in weights),
            mask_id=model.vocabulary.mask_id,
            block=model.family.block,
            fills=True,
        )

    def answering(self, prompt: str | Sequence[dict[str, Any]], options: Options) -> Asked:
        """See `Loaded`: continues the prompt; a text with holes goes to `filling`."""
        if not isinstance(prompt, str) or options.system is not None:
            raise ConfigError(f"{self.info.name} was trained on plain text and has no chat format: give a string")
        if HOLE in prompt:
            raise ConfigError(f"the prompt has holes ({HOLE}): fill them with Model.fill, or take them out")
        return self._asked(prompt, prompt, options)

    def has_holes(self, text: str) -> bool:
        """See `Loaded`."""
        return HOLE in text

    def filling(self, text: str, options: Options) -> Asked:
        """See `Loaded`."""
        if HOLE not in text:
            raise ConfigError(
                f"the text has no hole for {self.info.name} to fill: write {HOLE} where tokens are missing"
            )
        return self._asked(text, None, options)

    def bound(self, text: str, draws: int, seed: int) -> Bound:
        """The family's bound, window by window."""
        length = self.model.shape.length
        ids = torch.tensor([self.tokenizer.encode(text)], dtype=torch.long)
        if not ids.numel():
            raise RequestError("there is nothing to score: give a text of at least one token")
        objective, network = objective_of(self.model.family), self.model.network
        nats, variance, tokens = 0.0, 0.0, 0
        for number, part in enumerate(ids.split(length, 1)):
            size = self.model.family.block or 1
            wide = torch.nn.functional.pad(part, (0, -part.shape[1] % size))
            target = torch.arange(wide.shape[1])[None] < part.shape[1]
            each = [
                measure(network, objective, [Batch(wide, target)], 1, seed + number * draws + k) for k in range(draws)
            ]
            values = torch.tensor([one.nats * part.shape[1] for one in each], dtype=torch.float64)
            nats += float(values.mean())
            variance += float(values.var() / draws) if draws > 1 else float("nan")
            tokens += part.shape[1]
        exact = self.info.family == "ar"
        return Bound(nats, 0.0 if exact else variance**0.5, tokens, exact)

    def _asked(self, text: str, before: str | None, options: Options) -> Asked:
        columns = self.model.prompt(text, options.max_new_tokens)
        given = sum(len(self.tokenizer.encode(piece)) for piece in text.split(HOLE)) + text.count(HOLE)
        # what is behind fills the last block
        end = given + (options.max_new_tokens or 0) if HOLE in text or options.max_new_tokens else None
        options.refuse(TAKES, f"{self.info.name} (trained {self.info.family}, its family's own sampler)")
        steps = STEPS if options.steps is None else options.steps
        if steps > MOST_STEPS:
            raise RequestError(f"cannot write in {steps} steps: ask for 1 to {MOST_STEPS}")
        heat = 1.0 if options.temperature is None else options.temperature
        planned = Planned(steps, end, heat, 1.0 if options.top_p is None else options.top_p)
        request = Request(tuple(columns), 0, Sampling(seed=options.seed), planned, options.stop, before is not None)
        given = 0 if before is not None else len(columns) - columns.count(None)
        return Asked(request, Origin(self.info.family, self.info.name, "torch", False, before, given))

    def _check(self, request: Request) -> None:
        """Raises ConfigError for what is no number of steps, RequestError for a text that is too long."""
        if not isinstance(request.method, Planned):
            raise ConfigError(f"{request.method!r} is no number of denoising steps")
        shaped(self.model, request.method.temperature, request.method.top_p)
        if len(request.prompt) > self.model.shape.length:
            raise RequestError(f"{self.info.name} writes at most {self.model.shape.length} columns")

    def _begun(self, request: Request) -> Begun:
        """The generation of a request: what stands before its first open column is no part of the answer."""
        run = TrainedRun(self.model, request.prompt, request.method, request.sampling.seed)
        blank = self.model.form.blank
        mask = self.model.vocabulary.mask_id
        masks = bool((run.canvas.tokens[run.canvas.open] == mask).all()) and blank is None
        holes = [at for at, token in enumerate(request.prompt) if token is None]
        continued = holes == list(range(holes[0], len(request.prompt)))
        start = holes[0] if continued else 0
        end = request.method.end if blank is None else None
        return Begun(run, start, True, mask if masks else None, end=end)
