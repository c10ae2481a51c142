"""Three ways to write with a hybrid: one by one, by diffusion, and by diffusion verified.

A mode is a generator over `Move`s; each but the first, which only carries the token that the prompt itself decided,
costs one pass of the causal network.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from mezzotint.denoisers.causal_network import Floats
from mezzotint.denoisers.draft_network import TreeLimits
from mezzotint.engine.hybrid.cost_model import AHEAD, GROWTH, USUAL, Costs, worthwhile
from mezzotint.engine.hybrid.draft_tree import Tree, repeat, walk
from mezzotint.engine.hybrid.session import Session
from mezzotint.engine.request import Request


@dataclass(frozen=True, slots=True)
class Move:
    """A look at the canvas before a pass, or what the pass brought."""

    drafted: tuple[int, ...]
    """Tokens from the first unsettled column on; -1 where a column is still open."""
    scores: tuple[float, ...]
    won: tuple[int, ...]
    """Tokens that are final now."""
    passes: int = 1


TRUST = (2, 4, 8, 16), (0.48, 0.65, 0.81, 0.98)
"""How often a text that repeats this many of its tokens repeats the next one too (the default model's own answers)."""

Mode = Callable[[Session, Request, Floats], Iterator[Move]]


def ar(session: Session, request: Request, logits: Floats) -> Iterator[Move]:
    """One token a pass."""
    token = request.sampling.choose(logits, 0)
    yield Move((), (), (token,), passes=0)
    for index in range(1, request.max_new_tokens):
        single = Tree([token])
        token = request.sampling.choose(session.verify(single)[0], index)
        session.settle(single, [0])
        yield Move((), (), (token,))


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

    def __call__(self, session: Session, request: Request, logits: Floats) -> Iterator[Move]:
        choose = request.sampling.choose
        anchor = choose(logits, 0)
        yield Move((), (), (anchor,), passes=0)
        written = 1
        while True:
            room = min(request.max_new_tokens - written, session.capacity - len(session.tokens)) - 1
            candidates = self.grow(session, anchor, max(room, 0))
            if chain := candidates.best_chain():
                tokens, scores = candidates.tokens, candidates.scores
                yield Move(tuple(tokens[i] for i in chain), tuple(scores[i] for i in chain), (), passes=0)
            path, won = walk(session.verify(candidates), candidates, written, choose)
            session.settle(candidates, path)
            yield Move((), (), tuple(won))
            anchor, written = won[-1], written + len(won)

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
