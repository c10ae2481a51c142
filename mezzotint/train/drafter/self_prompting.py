"""Prompts that a chat model asks itself: it continues the header of a user's turn (Magpie, arXiv 2406.08464).

A model that was tuned on conversations has seen users' turns of many kinds, and so asks of many kinds too.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mezzotint.denoisers.causal_network import CausalNetwork, advance, prefill
from mezzotint.train.drafter.answers import Chat, Top, sampled
from mezzotint.train.drafter.append_log import AppendLog


@dataclass(frozen=True)
class Asking:
    """How prompts are drawn."""

    header: tuple[int, ...]
    """What comes before the words of a user."""
    end: frozenset[int]
    """Tokens that end a turn."""
    most: int = 160
    """Tokens of a prompt; a longer one is given up."""
    temperature: float = 1.0
    seed: int = 0


def header(chat: Chat) -> tuple[int, ...]:
    """What a chat template puts before the words of the first user's turn.

    Raises:
        RequestError: there is no template.
    """
    turns = [chat([{"role": "user", "content": word}]) for word in ("Why", "so", "3")]
    same = [len(set(ids)) == 1 for ids in zip(*turns, strict=False)]
    return tuple(turns[0][: [*same, False].index(False)])


def asked(
    network: CausalNetwork, top: Top, numbers: Iterable[int], asking: Asking, lanes: int
) -> Iterator[tuple[int, list[int]]]:
    """Numbers and prompts as they are finished; none for a number whose prompt does not end.

    A prompt depends on the seed and its number alone, not on what is written beside it.
    """
    waiting = iter(numbers)
    written: dict[int, tuple[int, list[int]]] = {}
    heads = np.zeros((lanes, network.width), np.float32)
    while True:
        for lane in set(range(lanes)) - set(written):
            if (number := next(waiting, None)) is None:
                break
            network.truncate(0, lane)
            heads[lane] = prefill(network, asking.header, (), lane)[0][-1]
            written[lane] = (number, [])
        if not written:
            return
        live = sorted(written)
        index, logits, _ = top(network.logits(heads[live]), 64)
        for i, lane in enumerate(live):
            number, tokens = written[lane]
            u = np.random.default_rng((asking.seed, number, len(tokens))).random()
            tokens.append(sampled(index[i], logits[i], asking.temperature, u))
        done = [lane for lane in live if written[lane][1][-1] in asking.end]
        for lane in done:
            number, tokens = written.pop(lane)
            yield number, tokens[:-1]
        for lane in [lane for lane in written if len(written[lane][1]) >= asking.most]:
            del written[lane]
        if live := sorted(written):
            heads[live], _ = advance(network, [written[lane][1][-1] for lane in live], live)


class Book:
    """Prompts by number, asked a page of numbers at a time and kept in a file.

    Args:
        path: of the file.
        ask: numbers and prompts of the numbers of a page; what does not end is left out.
        drawn: what the prompts depend on: those that were asked otherwise are not taken for them.
        page: numbers asked together.
    """

    def __init__(
        self,
        path: Path,
        ask: Callable[[Sequence[int]], Iterator[tuple[int, str]]],
        drawn: Mapping[str, float],
        page: int = 512,
    ) -> None:
        self.ask, self.page = ask, page
        self.drawn = {**drawn, "page": page}
        self.prompts: dict[int, str] = {}
        self._asked: set[int] = set()
        self._journal = AppendLog(path)
        for entry in self._journal.entries:
            if entry["drawn"] == self.drawn:
                self.prompts |= {int(number): prompt for number, prompt in entry["prompts"].items()}
                self._asked.add(entry["first"])

    def prompt(self, number: int) -> str | None:
        """The prompt of a number; None where the model asked nothing that ended."""
        first = number // self.page * self.page
        if first not in self._asked:
            new = dict(self.ask(range(first, first + self.page)))
            self.prompts |= new
            self._asked.add(first)
            self._journal.append({"drawn": self.drawn, "first": first, "prompts": new})
        return self.prompts.get(number)
