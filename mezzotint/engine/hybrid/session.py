"""One text in the making: settled tokens in a lane of the network's store, taps on their way to the drafter.

A session never calls the network.  It asks: its generators yield an `Ask` and are sent a `Reply`, so that whoever
drives several sessions lets their rows share a pass.
"""

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mezzotint.denoisers.causal_network import CausalNetwork, Floats, chain, tree
from mezzotint.denoisers.draft_network import DraftNetwork
from mezzotint.engine.hybrid.draft_tree import Tree

CHUNK = 64
"""Tokens of a prompt that one pass reads."""


@dataclass(frozen=True, slots=True)
class Ask:
    """Rows of a pass: tokens on top of what the lane has settled."""

    tokens: Sequence[int]
    positions: NDArray[np.integer]
    """Int[n]."""
    sees: NDArray[np.uint64]
    """UInt64[n]; bit j of entry i: row i sees row j of this ask."""
    heads: int
    """The logits of so many rows, the last ones, are wanted."""
    reading: bool = False
    """Whether it reads a prompt, and so does not count as a pass that writes."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What a pass said of an ask's n rows."""

    logits: Floats
    """Float[heads, V], valid until the session yields again."""
    taps: Floats
    """Float[n, taps, width]: the residual stream that the drafter reads."""
    first: int
    """The number, in the pass, of the ask's first row."""


Asking = Generator[Ask, Any, Floats]
"""Yields asks, is sent a `Reply` to each, returns logits."""


class Session:
    """A lane of a causal network, a drafter or none, and what both have read so far."""

    def __init__(self, network: CausalNetwork, drafter: DraftNetwork | None, lane: int = 0) -> None:
        self.network, self.drafter, self.lane = network, drafter, lane
        self.tokens: list[int] = []
        """Settled tokens; the anchor, chosen but not yet read by the network, is not among them."""
        self._taps: list[Floats] = []
        self._fresh: Reply | None = None

    @property
    def capacity(self) -> int:
        """Most tokens that the lane holds."""
        return self.network.capacity

    def shared(self, prompt: Sequence[int]) -> int:
        """How many tokens of a prompt the lane has settled already; its last one is always read again."""
        count = 0
        for old, new in zip(self.tokens, prompt[:-1], strict=False):
            if old != new:
                break
            count += 1
        return count

    def open(self, prompt: Sequence[int]) -> Asking:
        """Read a prompt, but not again what it shares with the text before; logits after it, Float[V]."""
        shared = self.shared(prompt)
        waiting: list[Floats] = []
        if self.drafter is not None:
            if (drafted := self.drafter.length()) < shared:
                waiting = [self._unread()[: shared - drafted]]
            else:
                # the drafter's row of a token also holds the next token, which may be another one now
                shared = max(0, shared - 1)
                self.drafter.truncate(shared)
        self.network.truncate(shared, self.lane)
        # where reading breaks off, what was read is the text before it
        self.tokens, self._taps = list(prompt[:shared]), waiting
        logits = np.empty((0, 0), np.float32)
        for at in range(shared, len(prompt), CHUNK):
            part = list(prompt[at : at + CHUNK])
            last = at + len(part) == len(prompt)
            reply = yield Ask(part, at + np.arange(len(part)), chain(len(part)), int(last), reading=True)
            self.network.commit(range(reply.first, reply.first + len(part)), self.lane)
            self.tokens += part
            self._taps.append(reply.taps)
            logits = reply.logits
        return logits[0]

    def draft(self, anchor: int, block: int) -> tuple[Floats, Floats]:
        """Let the drafter read what it has not yet read; state of the first drafted token Float[width], and block rows
        Float[block, width]."""
        assert self.drafter is not None
        following = [*self.tokens[self.drafter.length() + 1 :], anchor]
        out = self.drafter.read(self._unread(), following, block)
        self._taps = []
        return out

    def _unread(self) -> Floats:
        """Taps that the drafter has not read: the last ones, as it may have broken off in the middle of all."""
        assert self.drafter is not None
        taps = np.concatenate(self._taps)
        return taps[len(taps) - (len(self.tokens) - self.drafter.length()) :]

    def redraft(self, known: Sequence[int]) -> Floats:
        """Block rows again, Float[len(known), width], with some of the tokens after them decided; -1 where not."""
        assert self.drafter is not None
        return self.drafter.look(known)

    def verify(self, candidates: Tree) -> Asking:
        """Logits of every node, Float[n, V], from one pass of the network."""
        depth, sees = tree(candidates.parents)
        reply = yield Ask(candidates.tokens, len(self.tokens) + depth, sees, len(candidates.tokens))
        self._fresh = reply
        return reply.logits

    def settle(self, candidates: Tree, path: Sequence[int]) -> None:
        """Keep these nodes of the last pass as the next tokens of the text."""
        assert self._fresh is not None
        self.network.commit([self._fresh.first + node for node in path], self.lane)
        self.tokens += [candidates.tokens[i] for i in path]
        if self.drafter is not None:
            self._taps.append(self._fresh.taps[list(path)])
