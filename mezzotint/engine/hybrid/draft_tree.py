"""Lossless self-speculation: grow a tree of drafts, verify all of it in one causal pass, keep what the network says.

The tree is deterministic, so at every node the network's own choice (its argmax, or its sample with the noise of that
position) decides alone: if a child carries it, the walk goes on there, else it becomes the next anchor.  That is
rejection sampling against a one-point proposal (arXiv 2211.17192, sec. 2.3): the text has exactly the network's own
distribution, and with noise keyed by position it is the very text that one-by-one decoding writes.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Choose = Callable[[Floats, int, Sequence[int]], int]
"""Logits Float[V], the index of the generated token, and the ids before it -> token."""


@dataclass
class Tree:
    """Drafted tokens; node 0 is the anchor, a node's parent comes before it."""

    tokens: list[int]
    parents: list[int] = field(default_factory=lambda: [-1])
    scores: list[float] = field(default_factory=lambda: [1.0])
    """Chance, by the drafter, that the whole path to a node is right."""

    def add(self, token: int, parent: int, score: float) -> int:
        """Index of the node with this token under `parent`, made if it is not there."""
        for i, (t, p) in enumerate(zip(self.tokens, self.parents, strict=True)):
            if t == token and p == parent:
                self.scores[i] = max(self.scores[i], score)
                return i
        self.tokens.append(token)
        self.parents.append(parent)
        self.scores.append(score)
        return len(self.tokens) - 1

    def best_chain(self) -> list[int]:
        """Nodes of the path to the best leaf, without the anchor."""
        at, path = 0, []
        while children := [i for i, p in enumerate(self.parents) if p == at]:
            at = max(children, key=lambda i: self.scores[i])
            path.append(at)
        return path


def walk(logits: Floats, tree: Tree, first: int, choose: Choose, before: Sequence[int]) -> tuple[list[int], list[int]]:
    """Rows to settle and tokens accepted.

    Args:
        logits: Float[n, V], one row per node.
        tree: n nodes; the anchor is settled whatever the logits say.
        first: index of the generated token that follows the anchor.
        choose: the network's own choice from its logits.
        before: ids before the anchor.

    Returns:
        Nodes of the accepted path, the anchor first; the tokens after the anchor, the last of which is no node: it is
        the next anchor.
    """
    path, accepted = [0], []
    text = [*before, tree.tokens[0]]
    while True:
        token = choose(logits[path[-1]], first + len(accepted), text)
        accepted.append(token)
        text.append(token)
        child = next((i for i, p in enumerate(tree.parents) if p == path[-1] and tree.tokens[i] == token), None)
        if child is None:
            return path, accepted
        path.append(child)


def repeat(history: Sequence[int], length: int, longest: int = 16, shortest: int = 2) -> tuple[list[int], int]:
    """What followed the last earlier place where the text ended as it ends now: prompt lookup.

    The longest matching ending wins, at most `longest` tokens and at least `shortest`.

    Returns:
        `length` tokens, going round where the text repeats itself now, and the size of the match; none and 0 without
        one.
    """
    if shortest > 1 and not _recurs(history):
        return [], 0
    text = np.asarray(history, np.int64)
    ends, start, matched = np.arange(len(text) - 1), 0, 0
    for size in range(1, longest + 1):
        ends = ends[ends >= size - 1]
        ends = ends[text[ends - size + 1] == text[-size]] if len(ends) else ends
        if not len(ends):
            break
        start, matched = int(ends[-1]) + 1, size
    if matched < shortest:
        return [], 0
    period = len(text) - start
    return [int(text[start + i % period]) for i in range(length)], matched


def _recurs(history: Sequence[int]) -> bool:
    """Whether the last two tokens stood side by side before: mostly not, and an array of the text costs far more."""
    if len(history) < 3:
        return False
    before, last = history[-2:]
    at = 0
    try:
        while True:
            at = history.index(last, at + 1, len(history) - 1)
            if history[at - 1] == before:
                return True
    except ValueError:
        return False
