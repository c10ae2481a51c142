"""One text in the making: settled tokens in the network's store, taps on their way to the drafter."""

from collections.abc import Sequence

import numpy as np

from mezzotint.denoisers.causal_network import CausalNetwork, Floats, prefill, tree
from mezzotint.denoisers.draft_network import DraftNetwork
from mezzotint.engine.hybrid.draft_tree import Tree


class Session:
    """A causal network, a drafter or none, and what both have read so far."""

    def __init__(self, network: CausalNetwork, drafter: DraftNetwork | None) -> None:
        self.network, self.drafter = network, drafter
        self.tokens: list[int] = []
        """Settled tokens; the anchor, chosen but not yet read by the network, is not among them."""
        self._taps: list[Floats] = []
        self._fresh: Floats | None = None

    @property
    def capacity(self) -> int:
        """Most tokens that the network's store holds."""
        return self.network.capacity

    def open(self, prompt: Sequence[int]) -> Floats:
        """Read a prompt, but not again what it shares with the text before; logits after it, Float[V]."""
        shared = 0
        for old, new in zip(self.tokens, prompt[:-1], strict=False):
            if old != new:
                break
            shared += 1
        waiting: list[Floats] = []
        if self.drafter is not None:
            if (drafted := self.drafter.length()) < shared:
                waiting = [self._unread()[: shared - drafted]]
            else:
                # the drafter's row of a token also holds the next token, which may be another one now
                shared = max(0, shared - 1)
                self.drafter.truncate(shared)
        self.network.truncate(shared)
        # where reading breaks off, what was read must not pass for the text before it
        self.tokens, self._taps = list(prompt[:shared]), waiting
        hidden, taps = prefill(self.network, prompt[shared:], self._tapped)
        self.tokens, self._taps = list(prompt), [*waiting, taps]
        return self.network.logits(hidden[-1:])[0]

    def draft(self, anchor: int, block: int) -> tuple[Floats, Floats]:
        """Let the drafter read what it has not yet read; state of the first drafted token, and block rows."""
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
        """Block rows again, with some of the tokens after them decided; -1 where they are not."""
        assert self.drafter is not None
        return self.drafter.look(known)

    def verify(self, candidates: Tree) -> Floats:
        """Logits of every node, Float[n, V], from one pass of the network."""
        depth, sees = tree(candidates.parents)
        hidden, self._fresh = self.network.run(candidates.tokens, len(self.tokens) + depth, sees, None, self._tapped)
        return self.network.logits(hidden)

    def settle(self, candidates: Tree, path: Sequence[int]) -> None:
        """Keep these nodes of the last pass as the next tokens of the text."""
        assert self._fresh is not None
        self.network.commit(path)
        self.tokens += [candidates.tokens[i] for i in path]
        if self.drafter is not None:
            self._taps.append(self._fresh[list(path)])

    @property
    def _tapped(self) -> tuple[int, ...]:
        return self.drafter.shape.taps if self.drafter is not None else ()
