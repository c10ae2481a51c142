"""Conversations by number: the same everywhere, of every kind, and with nothing left unfilled."""

import pytest

from mezzotint.data.bank import parsed
from mezzotint.data.prompts import ACTIONS, FOLLOW, SOURCES, TASKS, Prompts, load
from mezzotint.errors import CheckpointError

BANK = parsed("## hand-made\nName a river.\nWhat is a hat?\n")
PROMPTS = Prompts(
    topics=("Mars", "bread", "jazz"),
    texts=("A long text about {braces}.", "Another."),
    dishes=("soup", "cake"),
    openers=(("Hi there, how are you?",), ("Tell me a joke.", "Another one?")),
    seed=4,
    bank=BANK,
)


def test_a_conversation_is_a_function_of_seed_and_number():
    again = Prompts(PROMPTS.topics, PROMPTS.texts, PROMPTS.dishes, PROMPTS.openers, seed=4, bank=BANK)
    other = Prompts(PROMPTS.topics, PROMPTS.texts, PROMPTS.dishes, PROMPTS.openers, seed=5, bank=BANK)
    numbers = [17, 3, 3, 250, 0]
    assert [PROMPTS.conversation(n) for n in numbers] == [again.conversation(n) for n in numbers]
    assert [PROMPTS.conversation(n) for n in range(20)] != [other.conversation(n) for n in range(20)]


def test_some_conversations_that_begin_elsewhere_go_on():
    talks = [PROMPTS.later(n) for n in range(400)]
    assert [PROMPTS.later(n) for n in range(400)] == talks
    assert {talk[0] for talk in talks if talk} == set(FOLLOW)
    assert 0.1 < sum(map(bool, talks)) / len(talks) < 0.3


def test_conversations_have_one_or_a_few_turns_of_text():
    talks = [PROMPTS.conversation(n) for n in range(600)]
    assert {len(talk) for talk in talks} == {1, 2}
    assert all(turn and turn == turn.strip() for talk in talks for turn in talk)


@pytest.mark.parametrize("word", ["Mars", "{braces}", "soup", "joke", "river", ACTIONS[0], TASKS[0], "apples"])
def test_every_kind_of_prompt_is_met(word):
    assert any(word in turn for n in range(3000) for turn in PROMPTS.conversation(n))


def test_no_field_is_left_unfilled():
    for n in range(600):
        for turn in PROMPTS.conversation(n):
            assert "{" not in turn.replace("{braces}", "")


def test_subtractions_do_not_go_below_zero():
    for n in range(3000):
        turn = PROMPTS.conversation(n)[0]
        if turn.startswith("Calculate"):
            a, b = (int(x.strip(" .")) for x in turn.removeprefix("Calculate").split("-"))
            assert a >= b


def test_a_source_that_pip_cannot_fetch_is_told(tmp_path, monkeypatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    first = SOURCES[0]
    with pytest.raises(CheckpointError, match=f"cannot fetch {first.name}=={first.version}"):
        load(tmp_path)
    assert not list(tmp_path.glob("*.json"))
