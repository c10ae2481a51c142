"""Prompts that a model asks itself: what follows the header of a user's turn, whatever is written beside it."""

import json

import numpy as np
import pytest
from tiny_hybrid import checkpoint, fresh, native, pool

from mezzotint.denoisers.native.runtime import top
from mezzotint.train.drafter.self_prompting import Asking, Book, asked, header

CK = checkpoint()
ASKING = Asking(header=(5, 9, 1), end=frozenset(range(7, 20)), most=24, temperature=0.8, seed=3)
LIKELIEST = 64


def best(logits, k):
    return top(pool(), logits, k)


def drawn(numbers, lanes, asking=ASKING):
    network = native(CK, capacity=len(asking.header) + asking.most + 64, lanes=lanes)
    return dict(asked(network, best, numbers, asking, lanes))


def test_a_prompt_is_drawn_from_the_network_token_by_token():
    network = native(CK)
    found = drawn(range(12), lanes=4)
    assert found
    for number, tokens in found.items():
        logits, _ = fresh(network, [*ASKING.header, *tokens])
        rows = logits[len(ASKING.header) - 1 :]
        for i, row in enumerate(rows):
            order = np.argsort(-row, kind="stable")[:LIKELIEST]
            p = np.exp((row[order] - row[order[0]]).astype(np.float64) / ASKING.temperature)
            u = np.random.default_rng((ASKING.seed, number, i)).random()
            token = order[(np.cumsum(p / p.sum()) <= u).sum()]
            assert token in ASKING.end if i == len(tokens) else token == tokens[i]


def test_a_prompt_does_not_depend_on_what_is_written_beside_it():
    want = drawn(range(40), lanes=1)
    assert len(want) > 3
    assert drawn(range(40), lanes=5) == want
    assert drawn([39, 3, 17], lanes=2) == {n: want[n] for n in (3, 17, 39) if n in want}


def test_a_prompt_that_does_not_end_is_given_up():
    long = drawn(range(60), lanes=6)
    short = drawn(range(60), lanes=6, asking=Asking(ASKING.header, ASKING.end, 4, ASKING.temperature, ASKING.seed))
    assert short == {number: tokens for number, tokens in long.items() if len(tokens) < 4}
    assert len(short) < len(long) < 60


def test_other_seeds_ask_other_things():
    other = Asking(ASKING.header, ASKING.end, ASKING.most, ASKING.temperature, seed=4)
    assert drawn(range(20), lanes=4, asking=other) != drawn(range(20), lanes=4)


@pytest.mark.parametrize("before", [[], [3, 4]])
def test_the_header_is_what_all_first_turns_share(before):
    def chat(messages):
        return [*before, 1, *map(ord, messages[0]["content"]), 2]

    assert header(chat) == (*before, 1)


def test_a_book_asks_for_each_page_once_and_keeps_it(tmp_path):
    pages = []

    def ask(numbers):
        pages.append(list(numbers))
        yield from ((n, f"prompt {n}") for n in reversed(numbers) if n % 3)

    book = Book(tmp_path / "asked.jsonl", ask, {"seed": 1}, page=4)
    assert [book.prompt(n) for n in (5, 0, 3, 7)] == ["prompt 5", None, None, "prompt 7"]
    again = Book(tmp_path / "asked.jsonl", ask, {"seed": 1}, page=4)
    assert [again.prompt(n) for n in range(8)] == [f"prompt {n}" if n % 3 else None for n in range(8)]
    assert again.prompt(400) == "prompt 400"  # and nothing in between
    assert pages == [[4, 5, 6, 7], [0, 1, 2, 3], [400, 401, 402, 403]]


def test_prompts_that_were_drawn_otherwise_are_not_taken(tmp_path):
    def asks(what):
        return lambda numbers: ((n, f"{what} {n}") for n in numbers)

    path = tmp_path / "asked.jsonl"
    assert Book(path, asks("one"), {"seed": 1}, page=4).prompt(2) == "one 2"
    assert Book(path, asks("two"), {"seed": 2}, page=4).prompt(2) == "two 2"
    assert Book(path, asks("three"), {"seed": 1}, page=8).prompt(2) == "three 2"
    assert Book(path, asks("four"), {"seed": 1}, page=4).prompt(2) == "one 2"


def test_a_page_torn_by_a_kill_is_asked_again(tmp_path):
    def ask(numbers):
        return ((n, str(n)) for n in numbers)

    path = tmp_path / "asked.jsonl"
    first = Book(path, ask, {"seed": 1}, page=2)
    assert [first.prompt(n) for n in (1, 3)] == ["1", "3"]
    path.write_text(path.read_text()[:-7])
    book = Book(path, ask, {"seed": 1}, page=2)
    assert [book.prompt(n) for n in range(6)] == list("012345")
    assert [json.loads(line)["first"] for line in path.read_text().splitlines()] == [0, 2, 4]
