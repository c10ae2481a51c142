"""The protocol deals, turns and sums as written; no clock is read here."""

import pytest
from numpy.testing import assert_allclose

from mezzotint.evaluate.bench.engines import BenchAnswer, BenchTask, shared_prefix
from mezzotint.evaluate.bench.speed import TOUCH, Timing, dealt, measure, ratio, summary, turned


def timing(number: int, tokens: int, seconds: float, forwards: int | None = None) -> Timing:
    passes = tokens - 1 if forwards is None else forwards
    return Timing(f"p{number}", number, 10, BenchAnswer(list(range(tokens)), passes, seconds, seconds / 10))


def test_every_prompt_is_dealt_once_and_hands_are_alike():
    hands = dealt(range(10), 4)
    assert sorted(card for hand in hands for card in hand) == list(range(10))
    assert {len(hand) for hand in hands} == {2, 3}


def test_no_hand_is_empty():
    assert dealt(range(3), 10) == [[0], [1], [2]]


def test_each_engine_goes_first_in_turn():
    assert [turned(["a", "b", "c"], by)[0] for by in range(4)] == ["a", "b", "c", "a"]


def test_a_turn_begins_with_an_answer_that_does_not_count():
    asked = []

    def write(task: BenchTask) -> BenchAnswer:
        asked.append((tuple(task.ids), task.limit))
        return BenchAnswer([1, 2], 1, 0.5, 0.1)

    touch = BenchTask((), [9, 9], 32)
    found = list(measure(write, [("a", BenchTask((), [1], 7)), ("b", BenchTask((), [2, 3], 7))], 3, touch))
    assert asked == [((9, 9), TOUCH), ((1,), 7), ((2, 3), 7)]
    assert [(t.prompt, t.round, t.prompt_tokens) for t in found] == [("a", 3, 1), ("b", 3, 2)]


def test_rates_are_all_tokens_over_all_seconds():
    found = summary([timing(0, 100, 1.0), timing(1, 20, 2.0)])
    assert_allclose(found["tokens_per_second"]["mean"], 40.0)
    assert_allclose(found["median_tokens_per_second"], 55.0)
    assert_allclose(found["first_token_seconds"], 0.15)


def test_word_by_word_is_one_token_per_forward():
    assert summary([timing(0, 100, 1.0), timing(1, 7, 1.0)])["tokens_per_forward"] == 1.0
    assert summary([timing(0, 101, 1.0, forwards=50)])["tokens_per_forward"] == 2.0


def test_an_answer_of_one_token_has_no_forwards():
    assert summary([timing(0, 1, 1.0)])["tokens_per_forward"] == 1.0


def test_ratios_are_taken_within_rounds():
    fast = [timing(0, 30, 1.0), timing(1, 20, 1.0), timing(2, 90, 1.0)]
    slow = [timing(0, 10, 1.0), timing(1, 10, 1.0), timing(2, 10, 1.0)]
    found = ratio(fast, slow)
    assert_allclose(found["rounds"], [3.0, 2.0, 9.0])
    assert_allclose([found["median"], found["lowest"], found["highest"]], [3.0, 2.0, 9.0])


@pytest.mark.parametrize(
    ("left", "right", "count"), [([], [1], 0), ([1, 2, 3], [1, 2, 4], 2), ([1, 2], [1, 2, 3], 2), ([5], [6], 0)]
)
def test_shared_prefix(left, right, count):
    assert shared_prefix(left, right) == count
