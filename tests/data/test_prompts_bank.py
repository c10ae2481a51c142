"""The bank of hand-made prompts: all of it can be read, it is broad, and it is not what is measured with."""

import random
import re
from collections import Counter

import pytest

from mezzotint.data.bank import FIELD, bank, filled, parsed, varied
from mezzotint.data.prompts import FOLLOW, SHARES, Prompts
from mezzotint.evaluate.bench.exact_match import words
from mezzotint.evaluate.bench.prompts import held_out, held_out_messages

BANK = bank()
LINES = BANK.lines
OUTSIDE = {"topic": ("Mars", "jazz", "bread"), "dish": ("soup", "cake")}
WORDS = {**BANK.words, **OUTSIDE}


def test_the_bank_is_large_and_its_kinds_are_many_and_balanced():
    sizes = {kind: len(lines) for kind, lines in BANK.kinds.items()}
    assert len(LINES) >= 1500
    assert len(sizes) >= 24
    assert min(sizes.values()) >= 40
    assert max(sizes.values()) <= 2 * min(sizes.values())


def test_no_conversation_is_there_twice():
    seen = Counter(" ".join(words(" ||| ".join(turns))) for turns in LINES)
    assert [text for text, count in seen.items() if count > 1] == []


@pytest.mark.parametrize("name", BANK.words)
def test_no_word_of_a_list_is_there_twice(name):
    assert len({word.lower() for word in BANK.words[name]}) == len(BANK.words[name]) >= 4


def test_every_turn_is_clean_text_and_fits_a_short_conversation():
    for turns in LINES:
        assert 1 <= len(turns) <= 4
        for turn in turns:
            assert turn
            assert turn == turn.strip()
            assert "\\n" not in turn
            assert "|||" not in turn
            assert len(turn) <= 700


def test_every_field_has_words_and_every_list_of_words_is_used():
    used = [found for turns in LINES for turn in turns for found in FIELD.finditer(turn)]
    assert {found[1] for found in used if found[1]} == set(WORDS)
    assert all(int(found[3]) < int(found[4]) for found in used if found[3])
    for turns in LINES:
        assert not FIELD.search(" ".join(filled(turns, WORDS, random.Random(0))))


def test_no_prompt_and_no_form_of_one_is_held_out():
    asked = held_out_messages()
    for turns in LINES:
        for turn in turns:
            assert not held_out(turn)
            form = _form(turn)
            if form is not None:
                assert not any(form.fullmatch(" ".join(message)) for message in asked), turn


def test_no_prompt_is_nearly_one_that_is_held_out():
    asked = [frozenset(message) for message in held_out_messages() if len(message) >= 5]
    for turn in {turn for turns in LINES for turn in turns}:
        mine = frozenset(words(turn))
        assert not any(len(mine & other) >= 0.8 * len(mine | other) for other in asked), turn


def test_a_field_means_the_same_in_all_turns_and_another_one_differs():
    for seed in range(50):
        first, second = filled(("{city} or {city2}?", "{city}, then"), {"city": ("Rome", "Oslo")}, random.Random(seed))
        assert set(first.rstrip("?").split(" or ")) == {"Rome", "Oslo"}
        assert second == first.split()[0] + ", then"


def test_a_number_field_stays_within_its_limits():
    seen = {filled(("{3..5}",), {}, random.Random(seed))[0] for seed in range(60)}
    assert seen == {"3", "4", "5"}


def test_the_format_has_turns_lines_and_lists_of_words():
    found = parsed("For people.\n\n## {tree}\noak ; elm\nold birch\n\n## talk\nHi\\nyou ||| Bye, {tree}!\nWhat?\n")
    assert found.words == {"tree": ("oak", "elm", "old birch")}
    assert found.kinds == {"talk": (("Hi\nyou", "Bye, {tree}!"), ("What?",))}


def test_repeats_of_a_prompt_differ_but_mostly_it_stays_as_it_is():
    seen = Counter(varied("Why is Rome old?", random.Random(seed)) for seed in range(1000))
    assert len(seen) > 25
    assert 550 < seen["Why is Rome old?"] < 750
    assert seen["why is rome old"] > 40


def test_careless_typing_sometimes_exchanges_two_letters():
    seen = {varied("Is water wet?", random.Random(seed)) for seed in range(1000)}
    assert {"is water wet", "is waetr wet"} <= seen


def test_code_keeps_its_letters():
    code = "Fix it:\n\nprint(Total)"
    assert all("print(Total)" in varied(code, random.Random(seed)) for seed in range(300))


def test_the_bank_has_its_share_of_the_draws():
    marked = parsed("## one\nMarked.\n")
    prompts = Prompts(("Mars",), ("Text.",), ("soup",), (("Hi.",),), 1, marked)
    hits = sum("marked" in prompts.conversation(n)[0].lower() for n in range(4000)) / 4000
    assert sum(SHARES.values()) == pytest.approx(1)
    assert hits == pytest.approx(SHARES["bank"], abs=0.03)
    assert 0.4 <= SHARES["bank"] <= 0.5


def test_a_bank_prompt_of_one_turn_sometimes_gets_a_follow_up():
    prompts = Prompts(("Mars",), ("Text.",), ("soup",), (("Hi.",),), 2, parsed("## one\nMarked.\n"))
    talks = [talk for talk in map(prompts.conversation, range(4000)) if "marked" in talk[0].lower()]
    followed = [talk[1] for talk in talks if len(talk) == 2]
    assert 0.1 < len(followed) / len(talks) < 0.2
    assert set(followed) == set(FOLLOW)


def test_draws_meet_every_kind():
    prompts = Prompts(("Mars", "jazz"), ("Text.",), ("soup", "cake"), (("Hi.",),), 3)
    plain = {turns[0]: kind for kind, lines in BANK.kinds.items() for turns in lines if not FIELD.search(turns[0])}
    met = Counter(plain[talk[0]] for talk in map(prompts.conversation, range(9000)) if talk[0] in plain)
    assert set(met) == set(plain.values())
    assert len(set(met)) >= 20


def _form(turn: str) -> re.Pattern[str] | None:
    """What a turn with fields may become, over lower-case words; None without fields, or where one is most of it."""
    if not FIELD.search(turn):
        return None
    parts = [" ".join(words(part)) for part in FIELD.sub("\0", turn).split("\0")]
    if sum(len(part) for part in parts) < 8:
        return None
    return re.compile(r"\s*(\S.*)\s*".join(map(re.escape, parts)))
