"""What is asked of texts: labels follow the text, wishes are read as they are written."""

import numpy as np
import pytest
import torch

from mezzotint.data.attributes import Kinds, Length
from mezzotint.data.characters import Characters
from mezzotint.errors import RequestError

LETTERS = Characters.of("a bc, é 1 dog")


def tokens(*texts):
    return torch.tensor([LETTERS.encode(text).tolist() for text in texts])


def test_words_are_counted_into_classes():
    asked = Length(edges=(2, 4))
    assert asked.classes == 3
    assert asked.labels(tokens("dog dog", "dogdogd", "a b c d", " a b c "), LETTERS).tolist() == [1, 0, 2, 1]
    assert [asked.wanted(str(n), 9)[0] for n in (0, 1, 2, 3, 4, 90)] == [0, 0, 1, 1, 2, 2]


def test_edges_are_thirds_of_the_text():
    ids = np.concatenate([LETTERS.encode(text) for text in ["dogdogdo ", "dog dog d ", "a b c d a "] * 40])
    few, many = Length().fitted(ids, 12, LETTERS).edges
    counts = np.array([len(LETTERS.decode(ids[at : at + 12].tolist()).split()) for at in range(len(ids) - 12)])
    assert 1 < few < many < 7
    assert 0.1 < (counts < few).mean() < 0.5
    assert 0.1 < (counts >= many).mean() < 0.5
    assert Length(edges=(3,)).fitted(ids, 12, LETTERS) == Length(edges=(3,))


def test_columns_have_kinds():
    found = Kinds().labels(tokens("a bc,é1"), LETTERS)
    assert found.tolist() == [Kinds().wanted("vsccmvd", 7)]
    assert Kinds().wanted("v?", 4) == [0, -1, -1, -1]


@pytest.mark.parametrize(("value", "said"), [("x", "no 'x'"), ("vvvvv", "does not fit a text of 4")])
def test_patterns_that_mean_nothing_are_refused(value, said):
    with pytest.raises(RequestError, match=said):
        Kinds().wanted(value, 4)


@pytest.mark.parametrize("value", ["", "-1", "2.5", "many"])
def test_lengths_are_whole_numbers(value):
    with pytest.raises(RequestError, match="no whole number"):
        Length(edges=(2,)).wanted(value, 4)
