"""What a request asks for, and how a distribution becomes a token."""

import numpy as np
import pytest

from mezzotint.engine.request import Request, Sampling
from mezzotint.errors import RequestError

LOGITS = np.log(np.array([0.05, 0.4, 0.15, 0.3, 0.1], np.float32))


def test_temperature_zero_takes_the_likeliest_and_of_equals_the_first():
    assert Sampling().choose(LOGITS, 0) == 1
    assert Sampling().choose(np.array([0, 2, 2], np.float32), 0) == 1
    np.testing.assert_array_equal(Sampling().probabilities(LOGITS), [0, 1, 0, 0, 0])


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_probabilities_are_the_tempered_softmax(temperature):
    want = np.exp(LOGITS.astype(np.float64) / temperature)
    np.testing.assert_allclose(Sampling(temperature).probabilities(LOGITS), want / want.sum(), rtol=1e-6)


@pytest.mark.parametrize(
    ("top_p", "kept"), [(0.3, [1]), (0.4001, [1, 3]), (0.69, [1, 3]), (0.75, [1, 2, 3]), (0.99, range(5))]
)
def test_top_p_keeps_the_fewest_likeliest_that_reach_it(top_p, kept):
    p = Sampling(1.0, top_p).probabilities(LOGITS)
    np.testing.assert_array_equal(np.flatnonzero(p), list(kept))
    want = np.exp(LOGITS.astype(np.float64))[list(kept)]
    np.testing.assert_allclose(p[list(kept)], want / want.sum(), rtol=1e-6)


def test_of_equals_top_p_keeps_the_first():
    np.testing.assert_array_equal(Sampling(1.0, 0.5).probabilities(np.zeros(4, np.float32)), [0.5, 0.5, 0, 0])


@pytest.mark.parametrize("temperature", [1e-300, 5e-324, 1e-30])
@pytest.mark.filterwarnings("error")
def test_a_tiny_temperature_is_greedy(temperature):
    assert Sampling(temperature).choose(LOGITS, 3) == 1


def test_a_huge_temperature_is_uniform():
    np.testing.assert_allclose(Sampling(1e300).probabilities(LOGITS), np.full(5, 0.2))


def test_draws_follow_the_probabilities():
    sampling = Sampling(1.0, 0.95)
    p = sampling.probabilities(LOGITS)
    seen = np.bincount([Sampling(1.0, 0.95, seed).choose(LOGITS, 0) for seed in range(4000)], minlength=5)
    assert seen[p == 0].sum() == 0
    expected = 4000 * p[p > 0]
    assert ((seen[p > 0] - expected) ** 2 / expected).sum() < 16.3  # chi-square of 3, p = 0.001


def test_a_draw_is_a_function_of_seed_and_index_alone():
    def draws(seed):
        return [Sampling(1.0, 1.0, seed).choose(LOGITS, index) for index in range(40)]

    assert draws(3) == draws(3)
    assert draws(3) != draws(4)
    assert len(set(draws(3))) > 2


def test_large_logits_do_not_overflow():
    p = Sampling(1.0).probabilities(np.array([3e38, 0, -3e38], np.float32))
    np.testing.assert_array_equal(p, [1, 0, 0])


@pytest.mark.parametrize("wrong", [{"temperature": -0.1}, {"temperature": np.nan}, {"temperature": np.inf}])
def test_temperatures_that_mean_nothing_are_refused(wrong):
    with pytest.raises(RequestError, match="temperature"):
        Sampling(**wrong)


@pytest.mark.parametrize("top_p", [0.0, -1.0, 1.01, np.nan])
def test_shares_that_mean_nothing_are_refused(top_p):
    with pytest.raises(RequestError, match="top_p"):
        Sampling(1.0, top_p)


def test_requests_need_a_prompt_and_a_length():
    with pytest.raises(RequestError, match="prompt is empty"):
        Request(())
    with pytest.raises(RequestError, match="0 tokens"):
        Request((1,), 0)
