"""What a round of drafting and verifying costs on this machine, by the rows of its pass.

How many drafts are worth verifying depends on it: a processor that multiplies eight rows in the time of one should
draft more than one that does not.  The text never depends on it.
"""

import time
from collections.abc import Sequence

import numpy as np

from mezzotint.denoisers.causal_network import CausalNetwork, chain, prefill
from mezzotint.denoisers.draft_network import DraftNetwork, TreeLimits

Costs = tuple[float, ...]
"""Of rounds with 1, 2, 3, ... rows, in any unit, never falling."""

USUAL: Costs = tuple(5.5 + 0.7 * n for n in range(1, 17))
"""Where nothing was measured."""
CONTEXT = 192
"""Settled tokens while it is measured, as in the middle of a short answer."""


AHEAD = 2
"""Block rows that verification drafts from, and measuring too."""
GROWTH = TreeLimits(nodes=15, gate=0.2, fan=2, beam=1)
"""How far its trees grow."""


def measured(network: CausalNetwork, drafter: DraftNetwork, rounds: int = 5) -> Costs:
    """Milliseconds of rounds of 1 to 16 rows: the best of several, a few row counts measured, the others between them.

    The store of the network and that of the drafter must be empty, and are empty afterwards.  A store too small to
    measure in gets the usual costs.
    """
    if network.capacity < CONTEXT + len(USUAL):
        return USUAL
    taps = drafter.shape.taps
    tokens = np.arange(64) % network.vocab
    _, tapped = prefill(network, np.tile(tokens, CONTEXT // 64).tolist(), taps)
    best: dict[int, float] = {}
    # in turns, so that a busy moment does not hit one row count alone; but long passes by themselves: a processor may
    # slow its caches down meanwhile, and the short pass after them would pay for it
    for counts in ((1, 2, 3, 4, 5, 6, 8), (11, len(USUAL))):
        for rows in counts * rounds:
            begun = time.perf_counter()
            network.logits(network.run(tokens[:rows].tolist(), CONTEXT + np.arange(rows), chain(rows), None, taps)[0])
            best[rows] = min(best.get(rows, np.inf), time.perf_counter() - begun)
    network.truncate(0)
    drafting = []
    for _ in range(rounds):
        begun = time.perf_counter()
        state, block = drafter.read(tapped[:2], tokens[:2].tolist(), min(AHEAD, drafter.shape.block))
        drafter.branches(state, block, GROWTH)
        drafting.append(time.perf_counter() - begun)
        drafter.truncate(0)
    by_rows = np.interp(np.arange(1, len(USUAL) + 1), list(best), np.maximum.accumulate(list(best.values())))
    return tuple(round(float(x), 3) for x in (by_rows + min(drafting)) * 1e3)


def worthwhile(chances: Sequence[float], costs: Costs) -> int:
    """How many drafts to verify, so that the tokens expected per unit of cost are most.

    Args:
        chances: that each draft is accepted, descending.
        costs: at least one; more rows than it knows are not worth their pass.
    """
    # plain numbers: a dozen of them are done before numpy has made its first array, and this runs every round
    expected, most, count = 1.0, 1.0 / costs[0], 0
    for i, (chance, cost) in enumerate(zip(chances, costs[1:], strict=False), 1):
        expected += chance
        if expected / cost > most:
            most, count = expected / cost, i
    return count
