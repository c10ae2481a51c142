"""Verified drafts write the very text that one-by-one decoding writes, whoever drafts."""

import itertools

import numpy as np
import pytest
from running import DRAFTERS, draft_with, engine_of, events, finished, network, one_by_one, written
from tiny_hybrid import BACKENDS, SHAPE, Oracle, checkpoint, fresh, native, prompts

from mezzotint.engine.hybrid.modes import Verify, ar
from mezzotint.engine.request import Request, Sampling

NONE: frozenset[int] = frozenset()
NUMBERS = [Verify(), Verify(nodes=1, fan=1, beam=1), Verify(nodes=30, gate=0.0, fan=5, beam=4), Verify(lookup=0)]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("kind", DRAFTERS)
def test_greedy_text_is_that_of_one_by_one(backend, kind):
    causal = network(backend)
    for prompt in prompts(10 if backend == "native" else 3):
        request = Request(prompt, 24)
        got = events(engine_of(causal, draft_with(kind, causal, request), NONE), request, Verify())
        assert written(got) == one_by_one(causal, request)


@pytest.mark.parametrize("mode", NUMBERS, ids=range(len(NUMBERS)))
@pytest.mark.parametrize("kind", ["random", "mixed"])
def test_the_shape_of_the_tree_does_not_matter(mode, kind):
    causal = network("native")
    for prompt in prompts(4, seed=2):
        request = Request(prompt, 30)
        got = events(engine_of(causal, draft_with(kind, causal, request), NONE), request, mode)
        assert written(got) == one_by_one(causal, request)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("kind", ["random", "mixed", "right"])
@pytest.mark.parametrize("sampling", [Sampling(1.0, 1.0, 5), Sampling(0.7, 0.8, 6), Sampling(2.0, 0.5, 7)])
def test_sampled_text_is_that_of_one_by_one_with_the_same_seed(backend, kind, sampling):
    causal = network(backend)
    for prompt in prompts(3 if backend == "native" else 1, seed=3):
        request = Request(prompt, 16, sampling)
        got = events(engine_of(causal, draft_with(kind, causal, request), NONE), request, Verify())
        assert written(got) == one_by_one(causal, request)


def test_repeating_text_is_won_by_looking_it_up():
    """Greedy texts of a random network run into circles, which the lookup then drafts without any drafter."""
    causal = network("native")
    request = Request(prompts(1)[0], 150)
    got = events(engine_of(causal, None, NONE), request, Verify())
    assert written(got) == one_by_one(causal, request)
    assert finished(got).forwards < 149


@pytest.mark.parametrize("top_p", [1.0, 0.8])
def test_sampled_texts_follow_the_networks_distribution(top_p):
    """All texts of three tokens from a vocabulary of eight, enumerated, against a thousand verified samples."""
    causal = native(checkpoint(vocab_size=8), capacity=16)
    prompt, sampling = (3, 1, 4), Sampling(0.8, top_p)
    chance = np.zeros((8, 8, 8))
    first = sampling.probabilities(fresh(causal, prompt)[0][-1])
    for a, b in itertools.product(range(8), repeat=2):
        second, third = (sampling.probabilities(row) for row in fresh(causal, [*prompt, a, b])[0][-2:])
        chance[a, b] = first[a] * second[b] * third
    np.testing.assert_allclose(chance.sum(), 1)
    guess = Oracle([*prompt, *np.unravel_index(chance.argmax(), chance.shape), 0, 0], 8, lambda at: False, SHAPE)
    engine, seen = engine_of(causal, guess, NONE), np.zeros_like(chance)
    forwards = 0
    for seed in range(1000):
        got = events(engine, Request(prompt, 3, Sampling(0.8, top_p, seed)), Verify())
        seen[tuple(written(got))] += 1
        forwards += finished(got).forwards
    assert forwards < 2000  # some drafts were accepted
    assert seen[chance == 0].sum() == 0
    common = chance * 1000 >= 5
    expected = np.append(chance[common], chance[~common].sum()) * 1000
    counts = np.append(seen[common], seen[~common].sum())
    freedom = len(expected) - 1
    statistic = ((counts - expected) ** 2 / np.maximum(expected, 1e-9)).sum()
    assert statistic < freedom + 3.5 * (2 * freedom) ** 0.5 + 4  # about p = 0.001


@pytest.mark.parametrize("backend", BACKENDS)
def test_one_by_one_takes_one_pass_per_token_after_the_first(backend):
    causal = network(backend)
    for count in (1, 2, 3, 9):
        done = finished(events(engine_of(causal, None, NONE), Request((5, 6, 7), count), ar))
        assert (done.tokens, done.forwards, done.reason) == (count, count - 1, "length")


def test_a_drafter_that_knows_wins_a_whole_block_per_pass():
    causal = network("native")
    request = Request(prompts(1, seed=4)[0], 1 + 4 * (SHAPE.block + 2))
    deep = Verify(depth=SHAPE.block + 1, lookup=0)
    got = events(engine_of(causal, draft_with("right", causal, request), NONE), request, deep)
    assert finished(got).forwards == 4


def test_a_drafter_that_is_always_wrong_costs_no_pass():
    causal = network("native")
    request = Request(prompts(1, seed=4)[0], 12)
    got = events(engine_of(causal, draft_with("wrong", causal, request), NONE), request, Verify(lookup=0))
    assert finished(got).forwards == 11
