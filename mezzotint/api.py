"""The five-line interface: load a model, ask it, read the answer.

```python
import mezzotint

model = mezzotint.load()
answer = model.generate("Why is the sky blue?")
print(answer.text, answer.tokens_per_second)
```
"""

import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from inspect import signature
from pathlib import Path
from typing import Any, Literal, TypeAlias

from mezzotint.checkpoints import DEFAULT_MODEL, Checkpoint, open_checkpoint
from mezzotint.data.tokenizer import Tokenizer
from mezzotint.engine.engine import Engine
from mezzotint.engine.events import Event, Finished, Settled, Started
from mezzotint.engine.hybrid.modes import Mode, Verify, ar
from mezzotint.engine.request import Request, Sampling
from mezzotint.errors import ConfigError, RequestError
from mezzotint.models import hybrid

Prompt: TypeAlias = str | Sequence[dict[str, str]]
ModeName = Literal["ar", "verify", "diffusion"]


@dataclass(frozen=True)
class Answer:
    """A finished generation."""

    text: str
    token_ids: tuple[int, ...]
    prompt_tokens: int
    tokens: int
    """Generated tokens, the end token included."""
    seconds: float
    """Wall-clock time, reading the prompt included."""
    tokens_per_second: float
    forwards: int
    """Passes of the causal network after the prompt was read."""
    tokens_per_forward: float
    """Tokens after the first, which the prompt's own pass decides, per pass."""
    first_token_seconds: float
    mode: str
    model: str
    finish_reason: str
    """"stop" at an end token, "length" at the limit."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self) | {"token_ids": list(self.token_ids)}


class Model:
    """A loaded model."""

    def __init__(self, checkpoint: Checkpoint, tokenizer: Tokenizer, engine: Engine, backend: str) -> None:
        self.name = checkpoint.name
        self.checkpoint, self.tokenizer, self.engine, self.backend = checkpoint, tokenizer, engine, backend
        self.context = engine.session.capacity
        """Most tokens of prompt and answer together."""
        self.verify = Verify()
        """Mode verify, as this machine runs it best."""
        self.load_seconds = 0.0

    def generate(self, prompt: Prompt, *, mode: str = "verify", **options: Any) -> Answer:
        """Answer a prompt: a string (one user message) or a chat of {"role", "content"} messages.

        Options: max_new_tokens (256), temperature (0), top_p (1), seed (0); in diffusion mode also block, rule, level,
        steps, correct, accept and gate.

        Raises:
            RequestError: an empty or too long prompt, or an option out of range.
            ConfigError: an unknown mode or option.
        """
        started, finished = Started(0, 0.0), Finished("length", 0, 0.0, 0, 0.0)
        ids: list[int] = []
        for event in self.stream(prompt, mode=mode, **options):
            if isinstance(event, Settled):
                ids += event.tokens
            elif isinstance(event, Started):
                started = event
            elif isinstance(event, Finished):
                finished = event
        after_first = max(finished.tokens - 1, 0)
        return Answer(
            text=self.tokenizer.decode(ids),
            token_ids=tuple(ids),
            prompt_tokens=started.prompt_tokens,
            tokens=finished.tokens,
            seconds=finished.seconds,
            tokens_per_second=finished.tokens / finished.seconds,
            forwards=finished.forwards,
            tokens_per_forward=after_first / finished.forwards if finished.forwards else float(finished.tokens),
            first_token_seconds=finished.first_token_seconds,
            mode=mode,
            model=self.name,
            finish_reason=finished.reason,
        )

    def stream(
        self,
        prompt: Prompt,
        *,
        mode: str = "verify",
        max_new_tokens: int = 256,
        temperature: float = 0.0,
        top_p: float = 1.0,
        seed: int = 0,
        **options: Any,
    ) -> Iterator[Event]:
        """Events of an answer while it is written; as `generate` otherwise."""
        messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else list(prompt)
        content = messages[-1].get("content") if messages and isinstance(messages[-1], dict) else None
        if not messages or (isinstance(content, str) and not content.strip()):
            raise RequestError("the prompt is empty: give some text")
        ids = self.tokenizer.chat(messages)
        request = Request(tuple(ids), max_new_tokens, Sampling(temperature, top_p, seed))
        return self.engine.stream(request, self._mode(mode, options))

    def _mode(self, name: str, options: dict[str, Any]) -> Mode:
        if name == "diffusion":
            if self.engine.session.drafter is None:
                raise ConfigError(f"{self.name} has no diffusion adapter: use mode ar or verify")
            unknown = [option for option in options if option not in signature(hybrid.diffusion).parameters]
            if unknown:
                raise ConfigError(f"mode diffusion has no option {unknown[0]}")
            return hybrid.diffusion(**options)
        if options:
            raise ConfigError(f"mode {name} has no option {next(iter(options))}")
        modes: dict[str, Mode] = {"ar": ar, "verify": self.verify}
        if name not in modes:
            raise ConfigError(f"unknown mode {name!r}: use ar, verify or diffusion")
        return modes[name]


def load(
    name: str | Path = DEFAULT_MODEL, *, backend: str = "auto", threads: int | None = None, online: bool = False
) -> Model:
    """Load a model and, where this package ships one for it, its diffusion adapter.

    Args:
        name: a name of `mezzotint models`, a folder with config.json and safetensors, a GGUF file, or with `online` a
            hub id.
        backend: "native" (compiled CPU kernels), "torch" (reference), or "auto": native where it runs.
        threads: CPU threads; all cores by default.

    Raises:
        CheckpointError: no such model, or damaged files.
        ConfigError: an unknown backend.
        CapacityError: the native backend was asked for and cannot run here.
    """
    begun = time.perf_counter()
    if backend not in hybrid.BACKENDS:
        raise ConfigError(f"unknown backend {backend!r}: use {', '.join(hybrid.BACKENDS)}")
    if threads is not None and threads < 0:
        raise ConfigError(f"cannot run on {threads} threads: give at least 1, or nothing for all")
    threads = threads or len(os.sched_getaffinity(0))
    checkpoint = open_checkpoint(name, offline=not online)
    tokenizer = Tokenizer.from_spec(checkpoint.tokenizer)
    network, drafter, used = hybrid.networks(checkpoint, backend, threads)
    eos = frozenset(tokenizer.eos_ids)
    model = Model(checkpoint, tokenizer, Engine(network, drafter, eos), used)
    if used == "native" and drafter is not None:
        model.verify = Verify(costs=hybrid.costs(checkpoint, network, drafter, threads))
    model.load_seconds = time.perf_counter() - begun
    return model
