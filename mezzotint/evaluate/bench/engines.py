"""What is measured, as one small protocol, and the adapters for other people's engines.

Every engine gets the same conversation and the same token ids, writes greedily until an end token or the limit, and
times itself with the same clock.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

from mezzotint.errors import ConfigError
from mezzotint.extras import require


@dataclass(frozen=True, slots=True)
class BenchStart:
    """What an engine is built from."""

    model: Path
    """The weights: a .gguf file or a folder."""
    name: str
    """The model as the user named it."""
    threads: int
    eos: tuple[int, ...]
    """Ids that end an answer."""
    context: int
    """Tokens of the longest prompt and its answer."""


@dataclass(frozen=True, slots=True)
class BenchTask:
    """One prompt."""

    messages: Sequence[dict[str, str]]
    ids: Sequence[int]
    """The conversation in the model's chat format."""
    limit: int
    """Most new tokens."""


@dataclass(slots=True)
class BenchAnswer:
    """One answer."""

    tokens: list[int]
    """New tokens, the end token included."""
    forwards: int
    """Passes of the network after the prompt was read."""
    seconds: float
    """From the request to the last token, reading the prompt included."""
    first_token_seconds: float


class BenchEngine(Protocol):
    """A loaded model that writes."""

    about: dict[str, Any]
    """Facts for the record: library, version, precision."""

    def write(self, task: BenchTask) -> BenchAnswer:
        """Answer one prompt greedily."""
        ...


class Transformers:
    """Hugging Face transformers, `generate` with its own cache, as its documentation shows it."""

    def __init__(self, start: BenchStart, dtype: str) -> None:
        for package in ("torch", "transformers", *(["accelerate"] if start.model.is_file() else [])):
            require(package, "transformers on this model")
        import torch
        from transformers import AutoModelForCausalLM
        from transformers.utils import logging

        logging.set_verbosity_error()
        logging.disable_progress_bar()
        torch.set_num_threads(start.threads)
        weights = (start.model.parent, start.model.name) if start.model.is_file() else (start.model, None)
        self._model: Any = AutoModelForCausalLM.from_pretrained(
            weights[0], gguf_file=weights[1], dtype=getattr(torch, dtype)
        ).eval()
        self._eos = list(start.eos)
        self.about = {"library": f"transformers {version('transformers')}, torch {version('torch')}", "weights": dtype}

    def write(self, task: BenchTask) -> BenchAnswer:
        """Greedy `generate`; the streamer tells when the first token was there."""
        import torch

        clock = _Clock()
        ids = torch.tensor([list(task.ids)])
        with torch.inference_mode():
            out = self._model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=task.limit,
                do_sample=False,
                eos_token_id=self._eos,
                pad_token_id=self._eos[0],
                streamer=clock,  # pyright: ignore[reportArgumentType]
            )
        seconds = time.perf_counter() - clock.start
        tokens = out[0, len(task.ids) :].tolist()
        return BenchAnswer(tokens, len(tokens) - 1, seconds, clock.ticks[1] - clock.start)


@dataclass(slots=True)
class _Clock:
    """A transformers streamer that only looks at the time: first the prompt is put, then token by token."""

    start: float = field(default_factory=time.perf_counter)
    ticks: list[float] = field(default_factory=list)

    def put(self, value: Any) -> None:
        self.ticks.append(time.perf_counter())

    def end(self) -> None:
        pass


class LlamaCpp:
    """llama.cpp through llama-cpp-python, on the same file; greedy by the largest logit, without its samplers' cost."""

    def __init__(self, start: BenchStart) -> None:
        if start.model.suffix != ".gguf":
            raise ConfigError("llama.cpp reads .gguf files only: bench a model that is one, or leave llama.cpp out")
        require("llama_cpp", "llama.cpp")
        import llama_cpp

        self._llama = llama_cpp.Llama(
            str(start.model), n_ctx=start.context, n_threads=start.threads, n_threads_batch=start.threads, verbose=False
        )
        self._logits = llama_cpp.llama_get_logits_ith
        self._eos = frozenset(start.eos)
        self._read: list[int] = []
        self.about = {"library": f"llama-cpp-python {version('llama-cpp-python')}", "weights": "as stored"}

    def write(self, task: BenchTask) -> BenchAnswer:
        """Prompt in one batch, without what it shares with the text before, as its own `generate` does; then tokens."""
        import numpy as np

        began = time.perf_counter()
        llama, tokens, first = self._llama, [], 0.0
        llama.n_tokens = shared_prefix(self._read, task.ids[:-1])
        llama.eval(list(task.ids[llama.n_tokens :]))
        while True:
            row = np.ctypeslib.as_array(self._logits(llama.ctx, -1), shape=(llama.n_vocab(),))
            tokens.append(int(row.argmax()))
            first = first or time.perf_counter()
            if len(tokens) == task.limit or tokens[-1] in self._eos:
                break
            llama.eval(tokens[-1:])
        self._read = [*task.ids, *tokens[:-1]]
        return BenchAnswer(tokens, len(tokens) - 1, time.perf_counter() - began, first - began)


def shared_prefix(left: Sequence[int], right: Sequence[int]) -> int:
    """Number of tokens that both begin with."""
    same = 0
    while same < min(len(left), len(right)) and left[same] == right[same]:
        same += 1
    return same
