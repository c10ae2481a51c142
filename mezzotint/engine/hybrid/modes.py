"""Three ways to write with a hybrid: one by one, by diffusion, and by diffusion verified.

A mode is a generator that yields an `Ask` for every pass of the causal network that it needs, and a `Move` for what
becomes of the text; it is sent the `Reply` to an ask, and nothing for a move.
"""

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any

import numpy as np

from mezzotint.denoisers.draft_network import TreeLimits
from mezzotint.engine.hybrid.cost_model import AHEAD, GROWTH, USUAL, Costs, worthwhile
from mezzotint.engine.hybrid.draft_tree import Tree, repeat, walk
from mezzotint.engine.hybrid.session import Ask, Session
from mezzotint.engine.request import Request


@dataclass(frozen=True, slots=True)
class Move:
    """A look at the canvas before a pass, or what the pass accepted."""

    drafted: tuple[int, ...]
    """Tokens from the first unsettled column on; -1 where a column is still open."""
    scores: tuple[float, ...]
    accepted: tuple[int, ...]
    """Tokens that are final now."""


TRUST = (2, 4, 8, 16), (0.48, 0.65, 0.81, 0.98)
"""How often a text that repeats this many of its tokens repeats the next one too (the default model's own answers)."""

Writing = Generator[Ask | Move, Any, None]
Mode = Callable[[Session, Request], Writing]


def ar(session: Session, request: Request) -> Writing:
    """One token a pass."""
    choose = request.sampling.choose
    token = choose((yield from session.open(prompt_of(request))), 0, session.tokens)
    yield Move((), (), (token,))
    for index in range(1, request.max_new_tokens):
        single = Tree([token])
        logits = yield from session.verify(single)
        session.settle(single, [0])
        token = choose(logits[0], index, session.tokens)
        yield Move((), (), (token,))


def prompt_of(request: Request) -> list[int]:
    """The ids of a prompt without holes."""
    return [token for token in request.prompt if token is not None]


@dataclass(frozen=True)
class Verify:
    """Drafts that the causal network verifies: its own text, with fewer passes."""

    depth: int = AHEAD + 1
    """Most drafted tokens in a row."""
    nodes: int = GROWTH.nodes
    """Most drafted tokens in one pass."""
    gate: float = GROWTH.gate
    """Least chance, by the drafter, of a token that is considered."""
    fan: int = GROWTH.fan
    """Candidates per node."""
    beam: int = GROWTH.beam
    """Nodes per depth that are drafted on."""
    lookup: int = 15
    """Most tokens drafted by repeating what followed the same words earlier; 0 for none."""
    costs: Costs = USUAL
    """Of a round by rows: as many drafts are verified as bring the most tokens for their cost."""

    def __call__(self, session: Session, request: Request) -> Writing:
        choose = request.sampling.choose
        anchor = choose((yield from session.open(prompt_of(request))), 0, session.tokens)
        yield Move((), (), (anchor,))
        written = 1
        while True:
            room = min(request.max_new_tokens - written, session.capacity - len(session.tokens)) - 1
            candidates = self.grow(session, anchor, max(room, 0))
            if chain := candidates.best_chain():
                tokens, scores = candidates.tokens, candidates.scores
                yield Move(tuple(tokens[i] for i in chain), tuple(scores[i] for i in chain), ())
            logits = yield from session.verify(candidates)
            before = session.tokens if request.sampling.repetition.active else ()
            path, accepted = walk(logits, candidates, written, choose, before)
            session.settle(candidates, path)
            yield Move((), (), tuple(accepted))
            anchor, written = accepted[-1], written + len(accepted)

    def grow(self, session: Session, anchor: int, depth: int) -> Tree:
        """The drafter's candidates, and what the text itself suggests."""
        grown = Tree([anchor])
        if session.drafter is not None:
            block = min(session.drafter.shape.block, self.depth - 1, max(depth - 1, 0))
            state, rows = session.draft(anchor, block)
            if depth:
                growth = TreeLimits(self.nodes, self.gate, self.fan, self.beam)
                tokens, parents, scores = session.drafter.branches(state, rows, growth)
                grown = Tree([anchor, *tokens], [-1, *parents], [1.0, *scores])
        at, score = 0, 1.0
        if self.lookup and depth:
            copied, matched = repeat([*session.tokens, anchor], min(self.lookup, depth))
            for i, token in enumerate(copied):
                score *= float(np.interp(matched + i, *TRUST))
                if score < self.gate:
                    break
                at = grown.add(token, at, score)
        return self._pruned(grown)

    def _pruned(self, grown: Tree) -> Tree:
        """The anchor and the likeliest others, as far as worthwhile; no parent is less likely than its children."""
        likeliest = sorted(range(1, len(grown.tokens)), key=lambda i: (-grown.scores[i], i))[: self.nodes]
        keep = sorted(likeliest[: worthwhile([grown.scores[i] for i in likeliest], self.costs)])
        return _kept(grown, keep)


def _kept(grown: Tree, keep: list[int]) -> Tree:
    """A tree of its anchor and these nodes, parents among them."""
    if len(keep) == len(grown.tokens) - 1:
        return grown
    place = {0: 0} | {node: i + 1 for i, node in enumerate(keep)}
    kept = [0, *keep]
    return Tree(
        [grown.tokens[i] for i in kept],
        [-1 if i == 0 else place[grown.parents[i]] for i in kept],
        [grown.scores[i] for i in kept],
    )
