"""Hybrids write many requests at once: the rows that their modes ask for share the passes of the causal network."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from mezzotint.denoisers.causal_network import CausalNetwork, Floats
from mezzotint.denoisers.draft_network import DraftNetwork
from mezzotint.engine.events import Reopened, Settled, Started, Wrote
from mezzotint.engine.hybrid.modes import Mode, Move, Writing, ar
from mezzotint.engine.hybrid.session import Ask, Reply, Session
from mezzotint.engine.request import Request
from mezzotint.engine.writer import Progress
from mezzotint.errors import ConfigError, RequestError

ROWS = 64
"""Most rows of one pass: one bit each in a row's mask."""


@dataclass(eq=False)
class HybridLane:
    """A request under way."""

    session: Session
    request: Request
    writing: Writing
    limit: int
    """Most tokens that it may have."""
    begun: float
    ask: Ask | None = None
    """What it waits for; None before the first step."""
    started: bool = False
    written: int = 0
    drafted: tuple[int, ...] = ()
    """The last draft that was shown."""


class HybridWriter:
    """The writer of a causal network with a drafter, or without one."""

    def __init__(
        self, network: CausalNetwork, drafter: DraftNetwork | None, eos: frozenset[int], lanes: int = 1
    ) -> None:
        """`lanes` is at most the number of lanes that the network was made with; each gets a drafter of its own."""
        self.network, self.drafter, self.eos, self.lanes = network, drafter, eos, lanes
        self._free = [Session(network, drafter)]
        self._made = 1

    @property
    def capacity(self) -> int:
        """Most tokens of prompt and answer together."""
        return self.network.capacity

    def check(self, request: Request) -> None:
        """Refuse what cannot be written, before it waits for a lane.

        Raises:
            RequestError: a prompt that does not fit, or has holes.
            ConfigError: a method that is no mode.
        """
        network = self.network
        if None in request.prompt:
            raise RequestError("a causal network writes from left to right and cannot fill holes: end the prompt there")
        if len(request.prompt) >= network.capacity:
            raise RequestError(
                f"the prompt has {len(request.prompt)} tokens and the context holds {network.capacity}: "
                "shorten the prompt"
            )
        if not all(token is not None and 0 <= token < network.vocab for token in request.prompt):
            raise RequestError(f"the prompt has an id outside the vocabulary of {network.vocab} tokens")
        if request.method is not None and not callable(request.method):
            raise ConfigError(f"{request.method!r} is no mode of a hybrid: use ar, verify or diffusion")

    def begin(self, request: Request) -> HybridLane:
        """Take the free lane that has read most of the prompt already."""
        session = self._take(request)
        mode: Mode = request.method or ar
        limit = min(request.max_new_tokens, session.capacity - len(request.prompt))
        return HybridLane(session, request, mode(session, request), limit, time.perf_counter())

    def step(self, lanes: Sequence[HybridLane]) -> list[Progress | Exception]:
        """One pass for every lane; what does not fit into one follows in another."""
        out: list[Progress | Exception] = [Progress() for _ in lanes]
        for i, lane in enumerate(lanes):
            if lane.ask is None:
                out[i] = self._advance(lane, None)
        asking = [(i, lane, lane.ask) for i, lane in enumerate(lanes) if lane.ask is not None]
        while asking:
            count = fitting([len(ask.tokens) for _, _, ask in asking])
            part, asking = asking[:count], asking[count:]
            for (i, lane, _), reply in zip(part, self._passed([(lane, ask) for _, lane, ask in part]), strict=True):
                out[i] = self._advance(lane, reply)
        return out

    def end(self, lane: HybridLane) -> None:
        """Give the lane back; what it has read stays for requests that begin alike."""
        lane.writing.close()
        self._free.append(lane.session)

    def _take(self, request: Request) -> Session:
        prompt = [token for token in request.prompt if token is not None]
        best = max(self._free, key=lambda session: session.shared(prompt), default=None)
        # a lane that has read something else is left as it is while there is another that was never used
        if self._made < self.lanes and (best is None or (best.tokens and not best.shared(prompt))):
            self._made += 1
            drafter = None if self.drafter is None else self.drafter.another()
            return Session(self.network, drafter, self._made - 1)
        assert best is not None, "an engine begins no more requests than there are lanes"
        self._free.remove(best)
        return best

    def _passed(self, asks: Sequence[tuple[HybridLane, Ask]]) -> list[Reply]:
        """One pass of the network, and what it says of every ask."""
        taps = self.drafter.shape.taps if self.drafter is not None else ()
        starts = np.cumsum([0, *[len(ask.tokens) for _, ask in asks]]).tolist()
        if len(asks) == 1:
            ((lane, ask),) = asks
            tokens, positions, sees = ask.tokens, ask.positions, ask.sees
            lanes = np.full(len(tokens), lane.session.lane, np.int32)
        else:
            tokens = [token for _, ask in asks for token in ask.tokens]
            positions = np.concatenate([ask.positions for _, ask in asks])
            sees = np.concatenate([ask.sees << np.uint64(at) for (_, ask), at in zip(asks, starts, strict=False)])
            lanes = np.concatenate([np.full(len(ask.tokens), lane.session.lane, np.int32) for lane, ask in asks])
        hidden, tapped = self.network.run(tokens, positions, sees, lanes, taps)
        logits = self._heads(hidden, [(end - ask.heads, end) for (_, ask), end in zip(asks, starts[1:], strict=True)])
        ends = zip(logits, starts, starts[1:], strict=False)
        return [Reply(mine, tapped[start:end], start) for mine, start, end in ends]

    def _heads(self, hidden: Floats, spans: Sequence[tuple[int, int]]) -> list[Floats]:
        """Logits of these rows of Float[n, width], an array a span: from one product where that changes no bit."""
        nothing = np.empty((0, self.network.vocab), np.float32)
        if not self.network.invariant:
            return [self.network.logits(hidden[first:end]) if end > first else nothing for first, end in spans]
        rows = [row for first, end in spans for row in range(first, end)]
        if not rows:
            return [nothing for _ in spans]
        logits = self.network.logits(hidden if len(rows) == len(hidden) else hidden[rows])
        edges = np.cumsum([0, *[end - first for first, end in spans]]).tolist()
        return [logits[first:end] for first, end in pairwise(edges)]

    def _advance(self, lane: HybridLane, reply: Reply | None) -> Progress | Exception:
        """Let the mode go on until its next ask, and gather what it says meanwhile."""
        progress = Progress()
        try:
            if reply is not None:
                assert lane.ask is not None
                progress.forwards = 0 if lane.ask.reading else 1
            # a wrong answer of a mode ends its own request alone
            said = next(lane.writing) if reply is None else lane.writing.send(reply)
            while isinstance(said, Move):
                self._tell(lane, said, progress)
                if progress.finished is not None:
                    return progress
                said = next(lane.writing)
            lane.ask = said
        except StopIteration:
            progress.finished = "length"
        except Exception as error:
            return error
        return progress

    def _tell(self, lane: HybridLane, move: Move, progress: Progress) -> None:
        """A move as events."""
        if not lane.started:
            lane.started = True
            progress.events.append(Started(len(lane.request.prompt), time.perf_counter() - lane.begun))
        if move.drafted:
            lane.drafted = move.drafted
            progress.events.append(_wrote(move, lane.written))
        if not move.accepted:
            return
        accepted = _until_end(move.accepted[: lane.limit - lane.written], self.eos)
        if reopened := _reopened(lane.drafted, accepted, lane.written):
            progress.events.append(Reopened(reopened))
        lane.drafted = ()
        lane.written += len(accepted)
        progress.events.append(Settled(accepted))
        if accepted[-1] in self.eos or lane.written >= lane.limit:
            progress.finished = "stop" if accepted[-1] in self.eos else "length"


def fitting(sizes: Sequence[int], most: int = ROWS) -> int:
    """How many of these asks, from the first on, one pass takes; always at least one."""
    total = 0
    for count, size in enumerate(sizes):
        total += size
        if total > most:
            return max(count, 1)
    return len(sizes)


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


def _reopened(draft: tuple[int, ...], accepted: tuple[int, ...], start: int) -> tuple[int, ...]:
    """Decided columns of a draft from the first one on that the pass did not confirm."""
    decided = [i for i, token in enumerate(draft) if token >= 0]
    wrong = next((i for i in decided if i >= len(accepted) or accepted[i] != draft[i]), len(draft))
    return tuple(start + i for i in decided if i >= wrong)
