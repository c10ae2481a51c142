"""Runs requests on tiny hybrids and gathers what they tell."""

from collections.abc import Callable
from functools import cache

import numpy as np
from tiny_hybrid import BACKENDS, SHAPE, Oracle, checkpoint, drafter, drafting

from mezzotint.denoisers.causal_network import CausalNetwork
from mezzotint.denoisers.draft_network import DraftNetwork
from mezzotint.engine.engine import Engine
from mezzotint.engine.events import Event, Finished, Settled
from mezzotint.engine.hybrid.modes import Mode, ar
from mezzotint.engine.request import Request


@cache
def network(backend: str, **changes: int) -> CausalNetwork:
    return BACKENDS[backend](checkpoint(**changes))


def events(engine: Engine, request: Request, mode: Mode) -> list[Event]:
    return list(engine.stream(request, mode))


def written(told: list[Event]) -> list[int]:
    return [token for event in told if isinstance(event, Settled) for token in event.tokens]


def finished(told: list[Event]) -> Finished:
    assert isinstance(told[-1], Finished)
    return told[-1]


def one_by_one(causal: CausalNetwork, request: Request, eos: frozenset[int] = frozenset()) -> list[int]:
    return written(events(Engine(causal, None, eos), request, ar))


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
