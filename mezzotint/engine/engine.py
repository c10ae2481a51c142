"""The one loop: a request in, events out."""

import threading
import time
from collections.abc import Iterator

from mezzotint.denoisers.causal_network import CausalNetwork
from mezzotint.denoisers.draft_network import DraftNetwork
from mezzotint.engine.events import Event, Finished, Reopened, Settled, Started, Wrote
from mezzotint.engine.hybrid.modes import Mode, Move
from mezzotint.engine.hybrid.session import Session
from mezzotint.engine.request import Request
from mezzotint.errors import RequestError


class Engine:
    """Runs requests on one network, one at a time; what a request shares with the one before is not read again."""

    def __init__(self, network: CausalNetwork, drafter: DraftNetwork | None, eos: frozenset[int]) -> None:
        self.session = Session(network, drafter)
        self.eos = eos
        self._busy = threading.Lock()
        self._owner: int | None = None

    def stream(self, request: Request, mode: Mode) -> Iterator[Event]:
        """Events of one request, the last of which is `Finished`.

        Raises:
            RequestError: the prompt does not fit, an id is outside the vocabulary, or this thread has left another
                answer unfinished, which would wait for itself.
        """
        network = self.session.network
        if len(request.prompt) >= network.capacity:
            raise RequestError(
                f"the prompt has {len(request.prompt)} tokens and the context holds {network.capacity}: "
                "shorten the prompt"
            )
        if not all(0 <= token < network.vocab for token in request.prompt):
            raise RequestError(f"the prompt has an id outside the vocabulary of {network.vocab} tokens")
        if self._owner == threading.get_ident():
            raise RequestError("another answer of this thread is unfinished: read it to its end or close it first")
        with self._busy:
            self._owner = threading.get_ident()
            try:
                yield from self._run(request, mode)
            finally:
                self._owner = None

    def _run(self, request: Request, mode: Mode) -> Iterator[Event]:
        begun = time.perf_counter()
        logits = self.session.open(request.prompt)
        yield Started(len(request.prompt), time.perf_counter() - begun)
        limit = min(request.max_new_tokens, self.session.capacity - len(request.prompt))
        written = passes = 0
        first = 0.0
        draft: tuple[int, ...] = ()
        for move in mode(self.session, request, logits):
            passes += move.passes
            if move.drafted:
                draft = move.drafted
                yield _wrote(move, written)
            if not move.won:
                continue
            won = _until_end(move.won[: limit - written], self.eos)
            first = first or time.perf_counter() - begun
            if taken_back := _taken_back(draft, won, written):
                yield Reopened(taken_back)
            draft = ()
            written += len(won)
            yield Settled(won)
            if won[-1] in self.eos or written >= limit:
                reason = "stop" if won[-1] in self.eos else "length"
                yield Finished(reason, written, time.perf_counter() - begun, passes, first)
                return


def _until_end(tokens: tuple[int, ...], eos: frozenset[int]) -> tuple[int, ...]:
    end = next((i for i, token in enumerate(tokens) if token in eos), len(tokens))
    return tokens[: end + 1]


def _wrote(move: Move, start: int) -> Wrote:
    """The decided columns of a draft."""
    decided = [i for i, token in enumerate(move.drafted) if token >= 0]
    return Wrote(
        tuple(start + i for i in decided),
        tuple(move.drafted[i] for i in decided),
        tuple(move.scores[i] for i in decided),
        start + len(move.drafted),
    )


def _taken_back(draft: tuple[int, ...], won: tuple[int, ...], start: int) -> tuple[int, ...]:
    """Decided columns of a draft from the first one on that the pass did not confirm."""
    decided = [i for i, token in enumerate(draft) if token >= 0]
    wrong = next((i for i in decided if i >= len(won) or won[i] != draft[i]), len(draft))
    return tuple(start + i for i in decided if i >= wrong)
