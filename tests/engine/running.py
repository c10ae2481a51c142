"""Runs requests on tiny hybrids and gathers what they tell."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache

import numpy as np
from tiny_hybrid import BACKENDS, SHAPE, Oracle, checkpoint, drafter, drafting

from mezzotint.denoisers.causal_network import CausalNetwork, Floats
from mezzotint.denoisers.draft_network import DraftNetwork
from mezzotint.engine.engine import Engine
from mezzotint.engine.events import Event, Finished, Settled
from mezzotint.engine.hybrid.modes import Mode, ar
from mezzotint.engine.hybrid.session import Asking, Reply, Session
from mezzotint.engine.hybrid.writer import HybridWriter
from mezzotint.engine.request import Request


@cache
def network(backend: str, **changes: int) -> CausalNetwork:
    return BACKENDS[backend](checkpoint(**changes))


def engine_of(
    causal: CausalNetwork, drafter: DraftNetwork | None, eos: frozenset[int] = frozenset(), lanes: int = 1
) -> Engine:
    return Engine(HybridWriter(causal, drafter, eos, lanes))


def events(engine: Engine, request: Request, mode: Mode) -> list[Event]:
    return list(engine.submit(replace(request, method=mode)))


def driven(session: Session, asking: Asking) -> Floats:
    """What a session's generator returns when the network alone answers it."""
    network, reply = session.network, None
    while True:
        try:
            ask = asking.send(reply)
        except StopIteration as done:
            return done.value
        lanes = np.full(len(ask.tokens), session.lane)
        taps = session.drafter.shape.taps if session.drafter is not None else ()
        hidden, tapped = network.run(ask.tokens, ask.positions, ask.sees, lanes, taps)
        reply = Reply(network.logits(hidden[len(hidden) - ask.heads :]) if ask.heads else hidden[:0], tapped, 0)


def written(told: list[Event]) -> list[int]:
    return [token for event in told if isinstance(event, Settled) for token in event.tokens]


def finished(told: list[Event]) -> Finished:
    assert isinstance(told[-1], Finished)
    return told[-1]


def one_by_one(causal: CausalNetwork, request: Request, eos: frozenset[int] = frozenset()) -> list[int]:
    return written(events(engine_of(causal, None, eos), request, ar))


def sometimes(at: int) -> bool:
    """Wrong at two places of five."""
    return at * 7 % 5 < 2


LIES: dict[str, Callable[[int], bool]] = {"right": lambda at: False, "wrong": lambda at: True, "mixed": sometimes}
DRAFTERS = ["none", "random", *LIES]


def draft_with(kind: str, causal: CausalNetwork, request: Request) -> DraftNetwork | None:
    """A drafter of this character for a request; those that know the text know what one-by-one writing gives."""
    if kind == "none":
        return None
    if kind == "random":
        return drafting(drafter(checkpoint()), causal)
    text = [*request.prompt, *one_by_one(causal, request), *np.zeros(8, int).tolist()]
    return Oracle(text, causal.vocab, LIES[kind], SHAPE)
