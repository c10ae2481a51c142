"""The scoring of short answers is strict, and every question can be scored."""

import pytest

from mezzotint.evaluate.bench.exact_match import Question, first_line, right
from mezzotint.evaluate.bench.prompts import questions

QUESTIONS = questions()


def question(score: str, *answers: str, options: tuple[str, ...] = ()) -> Question:
    return Question("q", "kind", score, "?", answers, options)


@pytest.mark.parametrize(
    ("score", "answers", "options", "text"),
    [
        ("word", ("Paris",), (), "The capital is **Paris**."),
        ("word", ("New Delhi", "Delhi"), (), "\n\n  new   delhi"),
        ("word", ("H2O",), (), "H₂O"),
        ("number", ("5",), (), "2 + 3 = 5."),
        ("number", ("7",), (), "There are seven days."),
        ("number", ("1000",), (), "1,000"),
        ("number", ("-3",), (), "-3"),
        ("choice", ("yes",), ("yes", "no"), "Yes, the sun is a star."),
        ("choice", ("horse",), ("snail", "horse"), "A horse is faster than a snail."),
        ("letter", ("a",), (), 'The first letter of a word like apple is "A".'),
        ("exact", ("The cat sat on the mat.",), (), '"The cat sat on the mat"'),
    ],
)
def test_a_right_answer_counts(score, answers, options, text):
    assert right(question(score, *answers, options=options), text)


@pytest.mark.parametrize(
    ("score", "answers", "options", "text"),
    [
        ("word", ("Paris",), (), "Parisian"),
        ("word", ("Paris",), (), "I do not know.\nParis"),
        ("word", ("cat",), (), "concatenate"),
        ("word", ("Paris",), (), ""),
        ("number", ("5",), (), "5 + 3 = 8"),
        ("number", ("5",), (), "15"),
        ("number", ("5",), (), "5.5"),
        ("number", ("5",), (), "no number"),
        ("choice", ("no",), ("yes", "no"), "Yes and no."),
        ("choice", ("no",), ("yes", "no"), "Nothing of the kind."),
        ("letter", ("p",), (), "apple"),
        ("exact", ("The cat sat on the mat.",), (), "Sure: The cat sat on the mat."),
    ],
)
def test_a_wrong_answer_does_not(score, answers, options, text):
    assert not right(question(score, *answers, options=options), text)


def test_only_the_first_line_with_a_word_in_it_counts():
    assert first_line("\n  --- \n **One**  two\nthree") == "one two"


def test_there_are_enough_questions_and_none_twice():
    assert len(QUESTIONS) >= 240
    assert len({q.id for q in QUESTIONS}) == len(QUESTIONS)
    assert len({q.question.casefold() for q in QUESTIONS}) == len(QUESTIONS)


@pytest.mark.parametrize("q", QUESTIONS, ids=lambda q: q.id)
def test_gold_answers_score_and_others_do_not(q):
    assert all(right(q, answer) for answer in q.answers)
    assert not right(q, "I am not sure about that.")
    assert q.score == "exact" or not any(right(q, option) for option in q.options if option not in q.answers)


@pytest.mark.parametrize("q", [q for q in QUESTIONS if q.score in ("word", "number")], ids=lambda q: q.id)
def test_repeating_the_question_is_no_answer(q):
    assert not right(q, q.question)
