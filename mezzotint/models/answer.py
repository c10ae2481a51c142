"""What a finished request gives: its text and how it came about."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from mezzotint.engine.events import Event, Finished, Settled, Started
from mezzotint.engine.request import Request


@dataclass(frozen=True)
class Answer:
    """A finished text."""

    text: str
    """The answer; for holes that were filled, the whole text."""
    token_ids: tuple[int, ...]
    prompt_tokens: int
    tokens: int
    """Generated tokens, the end token included."""
    seconds: float
    """Wall-clock time, reading the prompt included."""
    tokens_per_second: float
    forwards: int
    """Passes of the network; for causal models those after the prompt was read."""
    tokens_per_forward: float
    """For causal models of the tokens after the first, which the prompt's own pass decides."""
    first_token_seconds: float
    mode: str
    """The mode, the preset or the family's sampler that wrote it."""
    model: str
    finish_reason: str
    """"stop" at an end token or a stop string, "length" at the limit."""
    backend: str = "torch"
    """What computed it: texts of "native" and "torch" part from each other in the last bits of their logits."""
    full_text: str = ""
    """Prompt and text together, for models that continue a text; the text otherwise."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self) | {"token_ids": list(self.token_ids)}


@dataclass(frozen=True)
class Origin:
    """Where an answer comes from."""

    mode: str
    model: str
    backend: str
    causal: bool
    """Whether the first token costs no pass."""
    before: str | None = None
    """The text that the answer continues."""
    given: int = 0
    """Tokens of the answer that were given."""


@dataclass(frozen=True)
class Asked:
    """A request as the engine takes it, and what its answer should say of itself."""

    request: Request
    origin: Origin


def answer_of(events: Iterable[Event], origin: Origin) -> Answer:
    """The answer that a stream of events tells; the stream is read to its end."""
    started, finished = Started(0, 0.0), Finished("length", 0, 0.0, 0, 0.0)
    ids: list[int] = []
    parts: list[str] = []
    for event in events:
        if isinstance(event, Settled):
            ids += event.tokens
            parts.append(event.text)
        elif isinstance(event, Started):
            started = event
        elif isinstance(event, Finished):
            finished = event
    text = "".join(parts) + finished.text
    tokens = max(finished.tokens - origin.given, 0)
    counted = max(tokens - 1, 0) if origin.causal else tokens
    return Answer(
        text=text,
        token_ids=tuple(ids),
        prompt_tokens=started.prompt_tokens,
        tokens=tokens,
        seconds=finished.seconds,
        tokens_per_second=tokens / finished.seconds if finished.seconds else 0.0,
        forwards=finished.forwards,
        tokens_per_forward=counted / finished.forwards if finished.forwards else float(tokens),
        first_token_seconds=finished.first_token_seconds,
        mode=origin.mode,
        model=origin.model,
        finish_reason=finished.reason,
        backend=origin.backend,
        full_text=text if origin.before is None else origin.before + text,
    )
