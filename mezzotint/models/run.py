"""A model that `mezzotint train` made from scratch, behind the interface of all models."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from mezzotint.batch import Batch
from mezzotint.data.characters import Characters
from mezzotint.data.corpus import Vocabulary
from mezzotint.decode.canvas import Canvas
from mezzotint.decode.generation import Generation, Row, Written
from mezzotint.engine.canvas_writer import Begun, CanvasWriter
from mezzotint.engine.request import Request, Sampling
from mezzotint.engine.transcript import Pieces
from mezzotint.errors import ConfigError, RequestError
from mezzotint.families.base import objective_of
from mezzotint.models.answer import Asked, Origin
from mezzotint.models.base import Bound
from mezzotint.models.info import ModelInfo
from mezzotint.models.options import Options
from mezzotint.models.trained import HOLE, TrainedModel
from mezzotint.models.trained_writing import shaped, write_beyond
from mezzotint.objectives.bits import measure
from mezzotint.plugins import kind_of

STEPS = 32
"""Denoising steps of a text where nobody says how many."""
MOST_STEPS = 10_000
"""Far beyond what changes a text; a larger number is a slip that would run for hours."""
TAKES = frozenset({"steps", "temperature", "top_p"})
"""Options, beside those of every model."""


@dataclass(frozen=True)
class Planned:
    """How a request is written."""

    steps: int = STEPS
    """Denoising steps, of every window where the text is longer than one."""
    end: int | None = None
    """The column behind the text; None where it fills its canvas."""
    temperature: float = 1.0
    """Of p(x_0 | x_t), from which the family's own step draws."""
    top_p: float = 1.0


class TrainedRun(Generation):
    """One text of a family's own sampler; longer than the window, it is written half a window at a time."""

    def __init__(self, model: TrainedModel, columns: Sequence[int | None], how: Planned, seed: int) -> None:
        self.model, self.columns, self.how, self.seed = model, list(columns), how, seed
        self.stop, self.valid, self.reads, self.length = (), None, [], len(columns)
        window = model.shape.length
        first = self.columns[:window] if None in self.columns[:window] else [None] * window
        self.canvas, self.before = model.canvas([first], seed), []
        # samplers of most families change what they have written until the last step of a window
        self.final = 0

    def steps(self) -> Iterator[Canvas]:
        how = self.how
        if self.length <= self.model.shape.length:
            heard = shaped(self.model, how.temperature, how.top_p)
            for canvas in self.model.decode(self.canvas, how.steps, denoise=heard):
                yield self._seen(canvas)
            return
        given = 1 + max((at for at, token in enumerate(self.columns) if token is not None), default=-1)
        drawing = {"temperature": how.temperature, "top_p": how.top_p}
        for text in write_beyond(self.model, self.columns[:given], self.length, how.steps, [self.seed], **drawing):
            self.before = text.before[0].tolist()
            self.final = len(self.before)
            yield self._seen(text.canvas)

    def result(self) -> Written:
        """What is written by now; the text is all of it."""
        return Written([self.row().tokens], self.canvas, None, self.reads)

    def row(self, index: int = 0) -> Row:
        """The text as it stands, columns that hold nothing left out."""
        form, before = self.model.form, self.before
        tokens = form.written(self.canvas)[index].tolist()
        open_, scores = self.canvas.open[index].tolist(), self.canvas.score[index].tolist()
        if len(open_) != len(tokens) or form.blank is not None:
            tokens = [*before, *(token for token in tokens if token != form.blank)]
            return Row(tokens, [at >= len(before) for at in range(len(tokens))], [0.0] * len(tokens))
        sure = [0.0 if undecided else score for undecided, score in zip(open_, scores, strict=True)]
        settled = len(before)
        return Row([*before, *tokens], [*[False] * settled, *open_], [*[1.0] * settled, *sure])

    def _seen(self, canvas: Canvas) -> Canvas:
        self.reads.append(canvas.tokens.shape[1])
        self.canvas = canvas
        return canvas


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

    @property
    def letters(self) -> bool:
        """Whether every token is one character."""
        return isinstance(self.vocabulary, Characters)

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
        options.refuse(TAKES, f"{self.info.name} (trained {self.info.family}, its family's own sampler)")
        columns = self._columns(text, options.max_new_tokens)
        given = sum(len(self.tokenizer.encode(piece)) for piece in text.split(HOLE)) + text.count(HOLE)
        # what is behind fills the last block
        end = given + (options.max_new_tokens or 0) if HOLE in text or options.max_new_tokens else None
        how = Planned(
            STEPS if options.steps is None else options.steps,
            end,
            1.0 if options.temperature is None else options.temperature,
            1.0 if options.top_p is None else options.top_p,
        )
        if how.steps > MOST_STEPS:
            raise RequestError(f"cannot write in {how.steps} steps: ask for 1 to {MOST_STEPS}")
        request = Request(tuple(columns), 0, Sampling(seed=options.seed), how, options.stop, before is not None)
        given = 0 if before is not None else len(columns) - columns.count(None)
        return Asked(request, Origin(self.info.family, self.info.name, "torch", False, before, given))

    def _columns(self, text: str, new: int | None) -> list[int | None]:
        """The columns of a text, beyond the window where so many new ones are asked for."""
        columns = self.model.columns(text)
        if new is None or len(columns) + new <= self.model.shape.length or self.model.form.blank is not None:
            return self.model.prompt(text, new)
        return [*columns, *[None] * new]

    def _check(self, request: Request) -> None:
        """Raises ConfigError for what is no plan, RequestError for a text that cannot go beyond the window."""
        if not isinstance(request.method, Planned):
            raise ConfigError(f"{request.method!r} is no plan of denoising steps")
        shaped(self.model, request.method.temperature, request.method.top_p)  # which says what the family cannot
        window = self.model.shape.length
        if len(request.prompt) > window and self.model.form.blank is not None:
            raise RequestError(f"{self.info.name} writes at most {window} columns")

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
