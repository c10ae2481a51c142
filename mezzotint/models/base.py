"""The one model: whatever `mezzotint.load` opens writes, fills, measures and ends through this class.

A kind of model is a `Loaded`: what it is, how text becomes a request for its writer, and what it takes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias, Unpack, overload

from mezzotint.engine.engine import Engine
from mezzotint.engine.stream import Stream
from mezzotint.engine.transcript import Pieces
from mezzotint.engine.writer import Writer
from mezzotint.errors import MezzotintError, RequestError
from mezzotint.models.answer import Answer, Asked, answer_of
from mezzotint.models.info import ModelInfo
from mezzotint.models.many import answers
from mezzotint.models.options import Options, WritingOptions

Chat: TypeAlias = Sequence[dict[str, Any]]
Prompt: TypeAlias = str | Chat
"""A string, or a chat of {"role", "content"} messages, oldest first."""


class TextCodec(Protocol):
    """Text to ids and back: `data.tokenizer.Tokenizer`, or the vocabulary of a trained run."""

    def encode(self, text: str) -> list[int]:
        """The ids of a text."""
        ...

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids."""
        ...

    def stream(self) -> Pieces:
        """A decoder for one text, id by id."""
        ...


@dataclass(frozen=True)
class Bound:
    """What a text costs a model, in nats."""

    nats: float
    """Of the whole text: minus its log-likelihood, or an upper bound on that."""
    standard_error: float
    """Of `nats`, over the noise that was drawn; 0 where nothing is drawn."""
    tokens: int
    """Tokens that were scored."""
    exact: bool
    """Whether it is the log-likelihood itself."""

    @property
    def nats_per_token(self) -> float:
        """The mean."""
        return self.nats / self.tokens


class Loaded(Protocol):
    """A kind of opened model."""

    @property
    def info(self) -> ModelInfo:
        """What it is."""
        ...

    @property
    def tokenizer(self) -> TextCodec:
        """Text to ids and back."""
        ...

    @property
    def writer(self) -> Writer:
        """What the engine drives."""
        ...

    def answering(self, prompt: Prompt, options: Options) -> Asked:
        """The request that answers or continues a prompt.

        Raises:
            RequestError: an empty or too long prompt.
            ConfigError: an option that it does not take.
        """
        ...

    def has_holes(self, text: str) -> bool:
        """Whether a text has holes, as this model's vocabulary writes them."""
        ...

    def filling(self, text: str, options: Options) -> Asked:
        """The request that fills the holes of a text.

        Raises:
            ConfigError: a model that cannot fill holes.
        """
        ...

    def bound(self, text: str, draws: int, seed: int) -> Bound:
        """Log-likelihood of a text in nats, negated, or an upper bound on that.

        Raises:
            RequestError: a text that is empty or too long.
        """
        ...


class Model:
    """A loaded model: `mezzotint.load` makes it."""

    def __init__(self, loaded: Loaded) -> None:
        self.loaded = loaded
        self.engine = Engine(loaded.writer, loaded.tokenizer.stream)
        self.load_seconds = 0.0

    @property
    def info(self) -> ModelInfo:
        """Family, context, mask, modes and presets that it offers, memory."""
        return self.loaded.info

    @property
    def name(self) -> str:
        """As it was called, or the name of its folder."""
        return self.info.name

    @property
    def backend(self) -> str:
        """What computes it: "native" or "torch"."""
        return self.info.backend

    @property
    def context(self) -> int:
        """Most tokens of prompt and answer together."""
        return self.info.context

    @property
    def tokenizer(self) -> Any:
        """Text to ids and back: `encode`, `decode`, `stream`, and `chat` where the model has a chat format."""
        return self.loaded.tokenizer

    @overload
    def generate(self, prompt: str | Chat, **options: Unpack[WritingOptions]) -> Answer: ...

    @overload
    def generate(self, prompt: list[str] | list[Chat], **options: Unpack[WritingOptions]) -> list[Answer]: ...

    def generate(self, prompt: Any, **options: Unpack[WritingOptions]) -> Answer | list[Answer]:
        """Answer a prompt, or continue it where the model has no chat format.

        Args:
            prompt: a string, a chat of {"role", "content"} messages, or a list of several such prompts, which are
                written together; each gets the text that it gets alone, with seeds `seed`, `seed` + 1, ...
            options: as `Options` names them: max_new_tokens, temperature, top_p, top_k, seed, stop, system, raw, mode
                or preset, steps, ...

        Raises:
            RequestError: an empty or too long prompt, or an option out of range.
            ConfigError: an option that this model does not take; the message names those that it takes.
        """
        asked = Options.of(dict(options))
        if not _several(prompt):
            return self._answer(self.loaded.answering(_checked(prompt), asked))
        seeds = range(asked.seed, asked.seed + len(prompt))
        each = [Options.of({**options, "seed": seed}) for seed in seeds]
        return self._answers([self.loaded.answering(_checked(one), how) for one, how in zip(prompt, each, strict=True)])

    def stream(self, prompt: Prompt, **options: Unpack[WritingOptions]) -> Stream:
        """Events of an answer while it is written: iterate it, `async for` it, and `close` it to stop; as `generate`.

        Nothing is computed before the first event is asked for, and a stream that nobody reads holds nobody up.
        """
        return self.engine.submit(self.loaded.answering(_checked(prompt), Options.of(dict(options))).request)

    def fill(self, text: str, **options: Unpack[WritingOptions]) -> Answer:
        """Fill the holes of a text; `Answer.text` is the whole text.

        Args:
            text: holes are runs of underscores: three or more, one per token; in runs trained on a text of one's own
                every single one is a hole.
            options: as in `generate`.

        Raises:
            ConfigError: a model that writes from left to right only, or an option that it does not take.
            RequestError: a text without holes, or one that is too long.
        """
        return self._answer(self.loaded.filling(_text(text), Options.of(dict(options))))

    def stream_fill(self, text: str, **options: Unpack[WritingOptions]) -> Stream:
        """Events of `fill`; columns count from the beginning of the text."""
        return self.engine.submit(self.loaded.filling(_text(text), Options.of(dict(options))).request)

    def asked(self, prompt: Prompt, *, filling: bool = False, **options: Unpack[WritingOptions]) -> Asked:
        """The request of `generate`, or with `filling` of `fill`, for `engine.submit`."""
        given = Options.of(dict(options))
        return self.loaded.filling(_text(prompt), given) if filling else self.loaded.answering(_checked(prompt), given)

    def wants_filling(self, prompt: Prompt) -> bool:
        """Whether it is a text with holes, as this model writes them."""
        return isinstance(prompt, str) and self.loaded.has_holes(prompt)

    def bound(self, text: str, *, draws: int = 32, seed: int = 0) -> Bound:
        """How likely the model finds a text: its log-likelihood in nats, negated, or an upper bound on that.

        Args:
            text: scored as it stands, without a chat format.
            draws: times that the noise of a bound is drawn; nothing where the likelihood is exact.
            seed: of that noise.

        Raises:
            RequestError: a text that is empty or too long.
        """
        if not is_count(draws):
            raise RequestError(f"cannot draw the noise {draws!r} times: give a whole number from 1 up")
        with self.engine.exclusive():
            return self.loaded.bound(_text(text), draws, seed)

    def score(self, text: str, *, draws: int = 32, seed: int = 0) -> float:
        """The log-likelihood of a text in nats, or the lower bound on it: minus `bound(...).nats`."""
        return -self.bound(text, draws=draws, seed=seed).nats

    def close(self) -> None:
        """End what is being written; the model writes nothing after that."""
        self.engine.close()

    def __enter__(self) -> "Model":
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<mezzotint.Model {self.info.line()}>"

    def _answer(self, asked: Asked) -> Answer:
        with self.engine.submit(asked.request) as stream:
            return answer_of(stream, asked.origin)

    def _answers(self, asked: Sequence[Asked]) -> list[Answer]:
        """All of them, a step of each at a time."""
        found: list[Answer] = []
        for answer in answers(self.engine, asked, max(1, len(asked))):
            if isinstance(answer, MezzotintError):
                raise answer
            found.append(answer)
        return found


def is_count(value: object) -> bool:
    """Whether it is a whole number from 1 up."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _several(prompt: Any) -> bool:
    return isinstance(prompt, list | tuple) and len(prompt) > 0 and not isinstance(prompt[0], dict)


def _checked(prompt: Any) -> Prompt:
    """Raises RequestError for what is no prompt."""
    if isinstance(prompt, str):
        return _text(prompt)
    if not isinstance(prompt, list | tuple) or not prompt:
        raise RequestError("the prompt is empty: give some text" if prompt == [] else _not_a_prompt(prompt))
    for message in prompt:
        if not isinstance(message, dict):
            raise RequestError(_not_a_prompt(prompt))
    return list(prompt)


def _not_a_prompt(prompt: object) -> str:
    return f"a prompt is a string or a list of messages, not {type(prompt).__name__}: give some text"


def _text(text: Any) -> str:
    if not isinstance(text, str):
        raise RequestError(_not_a_prompt(text))
    return text
