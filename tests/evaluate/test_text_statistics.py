"""Measures of quality on sequences whose values are known by hand."""

import math

import numpy as np
import pytest
from numpy.testing import assert_allclose

from mezzotint.evaluate.bench.text_statistics import (
    Agreement,
    agreement,
    bootstrap,
    distinct,
    entropy,
    log_likelihoods,
    repetition,
    wilson,
)


def test_agreement_tells_prefix_from_positions():
    assert agreement([1, 2, 3, 4], [1, 2, 9, 4]) == Agreement(False, 0.5, 0.75)


def test_agreement_counts_the_longer_sequence():
    assert agreement([1, 2], [1, 2, 3, 4]) == Agreement(False, 0.5, 0.5)


def test_equal_sequences_agree_and_so_do_empty_ones():
    assert agreement([5, 6], [5, 6]) == Agreement(True, 1.0, 1.0)
    assert agreement([], []) == Agreement(True, 1.0, 1.0)


def test_repetition_counts_repeated_ngrams():
    assert_allclose(repetition([1, 2, 1, 2, 1], 2), 0.5)  # 12 21 12 21: two of four are new
    assert repetition([1, 2, 3], 2) == 0.0
    assert repetition([1], 2) == 0.0


def test_distinct_pools_all_answers():
    assert_allclose(distinct([[1, 2], [1, 2, 3]], 1), 3 / 5)
    assert distinct([], 1) == 0.0


def test_entropy_of_equal_shares_is_the_logarithm_of_their_number():
    assert_allclose(entropy([1, 2, 3, 4]), math.log(4))
    assert entropy([7, 7, 7]) == 0.0
    assert entropy([]) == 0.0


@pytest.mark.parametrize(
    ("successes", "count", "low", "high"),
    [
        (8, 10, 0.4901625, 0.9433178),
        (0, 10, 0.0, 0.2775328),
        (10, 10, 0.7224672, 1.0),
        (120, 240, 0.4372427, 0.5627573),
    ],
)
def test_wilson_interval(successes, count, low, high):
    found = wilson(successes, count)
    assert_allclose([found.low, found.high], [low, high], atol=1e-6)


def test_wilson_without_trials_says_nothing():
    found = wilson(0, 0)
    assert (found.low, found.high) == (0.0, 1.0)


def test_bootstrap_interval_of_a_mean_has_the_width_of_the_normal_one():
    values = np.random.default_rng(1).normal(3.0, 2.0, 400)
    found = bootstrap(values)
    assert_allclose(found.mean, values.mean())
    assert_allclose(found.high - found.low, 2 * 1.96 * values.std() / 20, rtol=0.1)


def test_bootstrap_of_a_ratio_is_the_ratio_of_sums():
    assert_allclose(bootstrap([10, 30], [1, 2]).mean, 40 / 3)
    assert math.isnan(bootstrap([]).mean)


def test_log_likelihoods_are_those_of_the_tokens_after_the_prompt():
    def logits(tokens):
        """Token t is followed by t + 1 with probability 1/2, by each of the other three with 1/6."""
        rows = np.log(np.full((len(tokens), 4), 1 / 6))
        rows[np.arange(len(tokens)), (np.array(tokens) + 1) % 4] = np.log(1 / 2)
        return rows + 5.0  # logits are free up to a constant

    assert_allclose(log_likelihoods(logits, [0, 1], [2, 3, 1]), np.log([1 / 2, 1 / 2, 1 / 6]))
    assert len(log_likelihoods(logits, [0], [])) == 0
