"""The chosen sample is the one the others agree with."""

import pytest

from mezzotint.decode.guidance.minimum_bayes_risk import bleu, most_agreed
from mezzotint.errors import RequestError


def test_the_middle_of_a_crowd_is_chosen_and_not_the_odd_one():
    crowd = [[1, 2, 3, 4, 5], [1, 2, 3, 4, 6], [9, 9, 9, 9, 9], [1, 2, 3, 4, 5, 5]]
    assert most_agreed(crowd) == 0
    assert most_agreed(crowd[::-1]) == 3


def test_a_utility_of_ones_own():
    assert most_agreed([[1], [1, 2, 3], [1, 2]], lambda a, b: -abs(len(a) - len(b))) == 2


def test_equal_scores_go_to_the_first_and_one_sample_is_the_choice():
    assert most_agreed([[1, 2], [1, 2]]) == 0
    assert most_agreed([[7]]) == 0
    with pytest.raises(RequestError, match="no samples"):
        most_agreed([])


@pytest.mark.parametrize(
    ("candidate", "reference", "want"),
    [
        ([1, 2, 3, 4], [1, 2, 3, 4], 1.0),
        ([1, 2], [3, 4], 0.0),
        ([], [], 1.0),
        ([], [1], 0.0),
        # one of two tokens matches; no pair does; longer n-grams do not exist
        ([1, 2], [1, 3], (0.5 * 0.5) ** 0.25),
        # a short candidate is punished by exp(1 - 4 / 2)
        ([1, 2], [1, 2, 3, 4], 2.718281828459045**-1),
    ],
)
def test_bleu_by_hand(candidate, reference, want):
    assert bleu(candidate, reference) == pytest.approx(want)
