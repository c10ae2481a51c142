"""Writing by block diffusion: the drafter denoises a block in any order, the causal network reads it and may object.

The canvas of a block is the anchor followed by masks.  Each denoising step lets the drafter propose every open column
and commits the sure ones (block_rules.py); these steps are cheap.  Columns from the first one on that is still open
after the last step, or by which the draft has become too doubtful, are left to the next block.  One pass of the causal
network then settles the rest.  With `correct`, columns from the first one on that the network finds unlikely are
reopened, which bounds the loss of quality.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from mezzotint.denoisers.causal_network import Floats
from mezzotint.engine.hybrid.block_rules import BlockRule, proposal
from mezzotint.engine.hybrid.draft_tree import Tree
from mezzotint.engine.hybrid.modes import Move, Writing, prompt_of
from mezzotint.engine.hybrid.session import Session
from mezzotint.engine.request import Request


@dataclass(frozen=True)
class Diffusion:
    """Block diffusion; the text is the drafter's, checked by the network."""

    rule: BlockRule
    block: int
    """Columns of the canvas, the anchor included."""
    steps: int
    """Most denoising steps of a block."""
    correct: bool = True
    """Reopen columns that the network finds unlikely."""
    accept: float = 0.1
    """Least probability of a column, as a share of the network's first choice, that needs no correction."""
    gate: float = 0.0
    """Least chance, by the drafter, that a column and all before it are right, worth a row of the pass."""

    def __call__(self, session: Session, request: Request) -> Writing:
        choose = request.sampling.choose
        anchor = choose((yield from session.open(prompt_of(request))), 0, session.tokens)
        yield Move((), (), (anchor,))
        written = 1
        while True:
            room = min(request.max_new_tokens - written, session.capacity - len(session.tokens)) - 1
            tokens, scores = [], []
            for tokens, scores in self.denoise(session, request, anchor, max(0, min(self.block - 1, room)), written):
                yield Move(tuple(tokens), tuple(scores), ())
            width = self._worthwhile(tokens, scores)
            tokens, scores = tokens[:width], scores[:width]
            chain = Tree([anchor, *tokens], list(range(-1, len(tokens))), [1.0, *scores])
            seen = yield from session.verify(chain)
            if self.correct:
                kept = self._kept(shaped(seen, request, [*session.tokens, anchor, *tokens], written), tokens)
            else:
                kept = len(tokens)
            session.settle(chain, range(kept + 1))
            anchor = choose(seen[kept], written + kept, session.tokens)
            yield Move((), (), (*tokens[:kept], anchor))
            written += kept + 1

    def denoise(
        self, session: Session, request: Request, anchor: int, width: int, written: int
    ) -> Iterator[tuple[list[int], list[float]]]:
        """Tokens, -1 where still open, and confidences of the `width` columns after the anchor, step by step."""
        drafter = session.drafter
        assert drafter is not None
        state, rows = session.draft(anchor, max(width - 1, 0))
        if not width:
            return
        decided, sure = [-1] * width, [0.0] * width
        for k in range(min(width, self.steps)):
            if k:
                rows = session.redraft(decided[:-1])
            # in later steps any column may be decided, however doubtful those before it were
            raw = drafter.chain(state, rows, decided[:-1], self.gate if self.steps == 1 else 0.0)
            proposed = proposal(raw)
            for i in np.flatnonzero(self.rule(proposed, np.array(decided[: len(raw)]) < 0)):
                decided[i], sure[i] = int(drafter.ids[proposed.tokens[i]]), float(proposed.probability[i])
            yield [*decided], [*sure]
            if -1 not in decided:
                return

    def _worthwhile(self, tokens: Sequence[int], scores: Sequence[float]) -> int:
        """Columns before the first that is open or too doubtful."""
        chance = 1.0
        for width, (token, score) in enumerate(zip(tokens, scores, strict=True)):
            chance *= score
            if token < 0 or chance < self.gate:
                return width
        return len(tokens)

    def _kept(self, seen: Floats, tokens: Sequence[int]) -> int:
        """Columns before the first that the network finds unlikely."""
        chosen = seen[np.arange(len(tokens)), tokens]
        unlikely = np.flatnonzero(np.exp(chosen - seen[: len(tokens)].max(-1)) < self.accept)
        return int(unlikely[0]) if len(unlikely) else len(tokens)


def shaped(seen: Floats, request: Request, text: Sequence[int], written: int) -> Floats:
    """Float[n + 1, V]: the network's logits after repetition has taken its share.

    Args:
        seen: Float[n + 1, V], behind the anchor and behind each of n drafted tokens.
        request: says what repetition costs.
        text: all ids, the drafted ones last.
        written: how many of them are answer, up to the anchor.
    """
    repetition, n = request.sampling.repetition, len(seen) - 1
    if not repetition.active:
        return seen
    first = len(text) - n
    return np.stack([repetition.shaped(row, text[: first + i], written + i) for i, row in enumerate(seen)])
