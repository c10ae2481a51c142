"""Drafts are verified as far as they pay on this machine."""

import numpy as np
import pytest
from running import draft_with, engine_of, events, finished, network, one_by_one, written
from tiny_hybrid import checkpoint, native, prompts

from mezzotint.engine.hybrid.cost_model import USUAL, measured, worthwhile
from mezzotint.engine.hybrid.modes import Verify
from mezzotint.engine.request import Request
from mezzotint.models import hybrid_networks


@pytest.mark.parametrize(
    ("chances", "costs", "best"),
    [
        ([], (1.0, 1.5), 0),
        ([0.4], (1.0, 1.5), 0),
        ([0.6], (1.0, 1.5), 1),
        ([0.6, 0.1], (1.0, 1.5, 1.5), 2),  # a free row is worth any chance
        ([0.9, 0.9, 0.9], (1.0, 9.0, 9.0, 2.0), 3),  # a dear row on the way to a cheap one
        ([0.9] * 5, (1.0, 1.01), 1),  # no more than there is a cost of
    ],
)
def test_the_number_of_drafts_brings_the_most_tokens_per_cost(chances, costs, best):
    assert worthwhile(chances, costs) == best


def test_costs_change_the_passes_and_not_the_text():
    causal = network("native")
    request = Request(prompts(1, seed=4)[0], 40)
    free, dear = Verify(costs=(1.0,) * 16), Verify(costs=tuple(10.0**n for n in range(16)))
    got = [
        events(engine_of(causal, draft_with("mixed", causal, request), frozenset()), request, mode)
        for mode in (free, dear)
    ]
    assert written(got[0]) == written(got[1]) == one_by_one(causal, request)
    assert finished(got[0]).forwards < finished(got[1]).forwards == 39


def test_measured_costs_never_fall_and_leave_the_stores_empty():
    causal = native(checkpoint(), capacity=256)
    request = Request(prompts(1)[0], 8)
    drafter = draft_with("random", causal, request)
    found = measured(causal, drafter, rounds=2)
    assert len(found) == 16
    assert found[0] > 0
    assert (np.diff(found) >= 0).all()
    assert causal.length() == drafter.length() == 0


def test_a_store_too_small_to_measure_in_gets_the_usual_costs():
    causal = native(checkpoint(), capacity=100)
    assert measured(causal, draft_with("random", causal, Request(prompts(1)[0], 8))) == USUAL


def test_costs_are_measured_once_and_kept_until_their_file_is_damaged(tmp_path, monkeypatch):
    monkeypatch.setattr("mezzotint.denoisers.native.build.library", lambda: tmp_path / "kernels.so")
    taken = iter([(1.0, 2.0), (3.0, 4.0), (5.0, 6.0)])
    monkeypatch.setattr(hybrid_networks, "measured", lambda network, drafter: next(taken))
    model = checkpoint()
    causal = native(model)
    drafter = draft_with("random", causal, Request(prompts(1)[0], 8))

    def costs(threads: int = 1):
        return hybrid_networks.costs(model, causal, drafter, threads)

    assert costs() == costs() == (1.0, 2.0)
    assert costs(threads=2) == (3.0, 4.0)
    for file in tmp_path.iterdir():
        file.write_text('[1.0, "2"]')
    assert costs() == (5.0, 6.0)
    assert sorted(file.suffix for file in tmp_path.iterdir()) == [".json", ".json"]
