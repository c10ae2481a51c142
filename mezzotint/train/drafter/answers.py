"""Self-distillation data: a causal network answers prompts, and its hidden states are kept beside the tokens.

Many conversations are written at once, one per lane.  Kept for every token: the residual stream after a few layers
("taps"), and the largest log-probabilities of the next token, so that a drafter can be trained without ever running the
network again.  Files in the folder are plain arrays that only grow; `index.jsonl` names the finished conversations, so
a killed run loses at most the ones it was writing.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mezzotint.denoisers.causal_network import CausalNetwork, Floats, advance, prefill
from mezzotint.train.drafter.append_log import AppendLog

Chat = Callable[[list[dict[str, str]]], list[int]]
Top = Callable[[Floats, int], tuple[NDArray[np.int32], Floats, Floats]]
FIELDS = {"tokens": np.int32, "answer": np.uint8, "top_ids": np.int32, "top_logp": np.float16, "taps": np.float16}


@dataclass(frozen=True)
class Plan:
    """How answers are written."""

    taps: tuple[int, ...]
    eos: frozenset[int]
    top: int = 8
    """Next-token log-probabilities kept per position."""
    answer: int = 192
    """Most tokens of one answer."""
    context: int = 448
    """Most tokens of a conversation."""
    greedy: float = 0.6
    """Share of conversations answered greedily; the others are sampled."""
    temperature: float = 0.8
    seed: int = 0


def sampled(index: NDArray[np.int32], logits: Floats, temperature: float, u: float) -> int:
    """One of the likeliest tokens, Int[k] and Float[k], the likeliest first; u from [0, 1) decides which."""
    p = np.exp((logits - logits[0]).astype(np.float64) / temperature)
    return int(index[np.searchsorted(np.cumsum(p / p.sum()), u).clip(max=len(index) - 1)])


@dataclass
class _Conversation:
    number: int
    turns: list[str]
    temperature: float
    messages: list[dict[str, str]] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)
    answer: list[int] = field(default_factory=list)
    rows: list[tuple[Any, ...]] = field(default_factory=list)
    """(top ids, top log-probabilities, taps) of each settled token."""
    written: int = 0


class Writer:
    """Fills a folder with answered conversations."""

    def __init__(self, folder: Path, network: CausalNetwork, chat: Chat, top: Top, plan: Plan) -> None:
        self.folder, self.network, self.chat, self.top, self.plan = folder, network, chat, top, plan
        folder.mkdir(parents=True, exist_ok=True)
        self.index = Index(folder)

    def write(
        self, conversations: Callable[[int], list[str]], decode: Callable[[Sequence[int]], str], lanes: int
    ) -> Iterator[int]:
        """Answer conversation after conversation, for ever; yields the number of tokens kept so far after each step.

        Args:
            conversations: user turns by number.
            decode: ids -> text, to put an answer into the history of the next turn.
            lanes: conversations written at the same time.
        """
        number = self.index.next_number
        live: list[_Conversation | None] = [None] * lanes
        heads = np.zeros((lanes, self.network.width), np.float32)
        while True:
            for lane in range(lanes):
                if live[lane] is None:
                    live[lane], number = self._open(lane, number, conversations, heads)
            index, logits, lse = self.top(self.network.logits(heads), 64)
            step: list[int] = []
            for lane, talk in enumerate(live):
                assert talk is not None
                k = self.plan.top
                talk.rows[-1] = (index[lane, :k], logits[lane, :k] - lse[lane], talk.rows[-1][2])
                step.append(self._choose(talk, index[lane], logits[lane]))
            self._advance(live, step, heads)
            for lane, talk in enumerate(live):
                if talk is not None and self._ended(talk, step[lane]):
                    live[lane] = self._next_turn(lane, talk, decode, heads)
            yield self.index.tokens

    def _open(
        self, lane: int, number: int, conversations: Callable[[int], list[str]], heads: Floats
    ) -> tuple[_Conversation, int]:
        while True:
            rng = np.random.default_rng((self.plan.seed, number))
            temperature = 0.0 if rng.random() < self.plan.greedy else self.plan.temperature
            talk = _Conversation(number, conversations(number), temperature)
            number += 1
            self.network.truncate(0, lane)
            if self._ask(lane, talk, heads):
                return talk, number

    def _ask(self, lane: int, talk: _Conversation, heads: Floats) -> bool:
        """Put the next user turn before the network; False if it does not fit."""
        talk.messages.append({"role": "user", "content": talk.turns.pop(0)})
        ids = self.chat(talk.messages)
        if len(ids) + 16 > self.plan.context or ids[: len(talk.tokens)] != talk.tokens:
            return False  # an answer may not survive decoding and encoding to the same ids
        fresh = ids[len(talk.tokens) :]
        hidden, taps = prefill(self.network, fresh, self.plan.taps, lane)
        k = self.plan.top
        empty = (np.zeros(k, np.int32), np.full(k, -np.inf, np.float32))
        talk.rows += [(*empty, t.astype(np.float16)) for t in taps]
        talk.tokens += fresh
        talk.answer += [0] * len(fresh)
        talk.written = 0
        heads[lane] = hidden[-1]
        return True

    def _choose(self, talk: _Conversation, index: NDArray[np.int32], logits: Floats) -> int:
        if talk.temperature == 0:
            return int(index[0])
        u = np.random.default_rng((self.plan.seed, talk.number, len(talk.tokens))).random()
        return sampled(index, logits, talk.temperature, u)

    def _advance(self, live: list[_Conversation | None], step: list[int], heads: Floats) -> None:
        heads[:], taps = advance(self.network, step, range(len(live)), self.plan.taps)
        k = self.plan.top
        for lane, talk in enumerate(live):
            assert talk is not None
            talk.tokens.append(step[lane])
            talk.answer.append(1)
            talk.rows.append((np.zeros(k, np.int32), np.full(k, -np.inf, np.float32), taps[lane].astype(np.float16)))
            talk.written += 1

    def _ended(self, talk: _Conversation, token: int) -> bool:
        return token in self.plan.eos or talk.written >= self.plan.answer or len(talk.tokens) >= self.plan.context

    def _next_turn(
        self, lane: int, talk: _Conversation, decode: Callable[[Sequence[int]], str], heads: Floats
    ) -> _Conversation | None:
        if talk.turns and talk.tokens[-1] in self.plan.eos:
            reply = talk.tokens[len(talk.tokens) - talk.written : -1]
            talk.messages.append({"role": "assistant", "content": decode(reply)})
            if self._ask(lane, talk, heads):
                return talk
        self.index.append(talk.number, talk.tokens, talk.answer, talk.rows)
        return None


class Index:
    """The arrays of a folder and the list of finished conversations."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.spans: list[tuple[int, int]] = []
        self.next_number = 0
        self._journal = AppendLog(folder / "index.jsonl")
        for entry in self._journal.entries:
            self.spans.append((entry["start"], entry["length"]))
            self.next_number = max(self.next_number, entry["number"] + 1)
        self.tokens = sum(length for _, length in self.spans)

    def append(self, number: int, tokens: list[int], answer: list[int], rows: list[tuple[Any, ...]]) -> None:
        """Arrays first, index last: an unfinished entry is overwritten by the next run."""
        columns = (tokens, answer, *(np.stack(c) for c in zip(*rows, strict=True)))
        for (name, dtype), column in zip(FIELDS.items(), columns, strict=True):
            data = np.asarray(column).astype(dtype)
            path = self.folder / f"{name}.bin"
            with open(path, "r+b" if path.exists() else "w+b") as file:
                file.seek(self.tokens * (data.nbytes // len(tokens)))
                file.write(data.tobytes())
        self._journal.append({"number": number, "start": self.tokens, "length": len(tokens)})
        self.spans.append((self.tokens, len(tokens)))
        self.tokens += len(tokens)

    def arrays(self, top: int, taps: int, width: int) -> dict[str, NDArray[Any]]:
        """Memory-mapped arrays by name, first axis the token."""
        shapes = {"tokens": (), "answer": (), "top_ids": (top,), "top_logp": (top,), "taps": (taps, width)}
        return {
            name: np.memmap(self.folder / f"{name}.bin", dtype, "r", shape=(self.tokens, *shapes[name]))
            for name, dtype in FIELDS.items()
        }
