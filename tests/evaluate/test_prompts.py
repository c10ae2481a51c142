"""The held-out prompts are many, of several kinds, and out of reach of the training templates."""

import re
from collections import Counter

import pytest

from mezzotint.data import prompts as training
from mezzotint.evaluate.bench.prompts import held_out, prompts, questions

PROMPTS = prompts()
TURNS = [m["content"] for p in PROMPTS for m in p.messages if m["role"] == "user"]
TEMPLATES = [
    t
    for group in (training.ABOUT, training.TEXT, training.FOOD, training.LIFE, training.CODE, training.SUMS)
    for t in group
]


def test_there_are_enough_prompts_of_several_kinds():
    kinds = Counter(p.kind for p in PROMPTS)
    assert len(PROMPTS) >= 60
    assert len(kinds) >= 10
    assert min(kinds.values()) >= 5
    assert len({p.id for p in PROMPTS}) == len(PROMPTS)


def test_any_first_part_of_the_prompts_is_a_mixture():
    assert len({p.kind for p in prompts(10)}) == 10
    assert len({q.kind for q in questions(26)}) >= 8


def test_every_conversation_alternates_and_ends_with_the_user():
    for prompt in PROMPTS:
        roles = [m["role"] for m in prompt.messages]
        assert roles == ["user", "assistant"] * (len(roles) // 2) + ["user"]


@pytest.mark.parametrize("template", TEMPLATES)
def test_no_prompt_has_the_form_of_a_training_template(template):
    form = re.compile(re.sub(r"\\\{\w\\\}", "(.+)", re.escape(template)), re.DOTALL)
    asked = TURNS + [q.question for q in questions()]
    assert [text for text in asked if form.fullmatch(text)] == []


def test_held_out_sees_through_case_and_punctuation():
    first = PROMPTS[0].messages[0]["content"]
    assert held_out(first)
    assert held_out(f"  {first.upper().replace('?', '!!')} ")
    assert held_out(questions()[0].question)


def test_other_prompts_may_be_trained_on():
    assert not held_out("What is a mezzotint?")
    assert not held_out(PROMPTS[0].messages[0]["content"] + " Please.")
