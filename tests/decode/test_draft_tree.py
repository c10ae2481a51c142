"""Trees of drafts and the walk through them: what is kept is what the network would have written."""

import itertools

import numpy as np
import pytest

from mezzotint.engine.hybrid.draft_tree import Tree, repeat, walk


def one_hot(tokens, vocab=10):
    """Logits Float[n, vocab] whose argmaxes are `tokens`."""
    out = np.zeros((len(tokens), vocab), np.float32)
    out[np.arange(len(tokens)), tokens] = 1
    return out


def greedy(logits, index, text):
    return int(logits.argmax())


def test_a_token_under_a_parent_is_one_node_with_the_better_score():
    tree = Tree([7])
    first = tree.add(3, 0, 0.4)
    assert tree.add(3, 0, 0.6) == first
    assert tree.add(3, 0, 0.1) == first
    second = tree.add(3, first, 0.2)
    assert (tree.tokens, tree.parents) == ([7, 3, 3], [-1, 0, first])
    assert tree.scores == [1.0, 0.6, 0.2]
    assert second == 2


def test_the_best_chain_follows_the_best_child():
    tree = Tree([7])
    left, right = tree.add(1, 0, 0.3), tree.add(2, 0, 0.5)
    tree.add(3, left, 0.29)
    low, high = tree.add(4, right, 0.1), tree.add(5, right, 0.2)
    assert tree.best_chain() == [right, high]
    assert low not in tree.best_chain()
    assert Tree([7]).best_chain() == []


def test_the_walk_goes_where_the_network_goes():
    """7 -> 1 or 2; 2 -> 4 or 5; the network says 2, 5, 9."""
    tree = Tree([7, 1, 2, 4, 5, 6], [-1, 0, 0, 2, 2, 1])
    logits = one_hot([2, 0, 5, 0, 9, 0])
    assert walk(logits, tree, 0, greedy, ()) == ([0, 2, 4], [2, 5, 9])


def test_a_wrong_tree_still_wins_the_networks_own_token():
    assert walk(one_hot([3, 0, 0]), Tree([7, 1, 2], [-1, 0, 1]), 0, greedy, ()) == ([0], [3])
    assert walk(one_hot([3]), Tree([7]), 0, greedy, ()) == ([0], [3])


def test_a_right_tree_wins_one_token_more_than_its_depth():
    assert walk(one_hot([1, 2, 8]), Tree([7, 1, 2], [-1, 0, 1]), 0, greedy, ()) == ([0, 1, 2], [1, 2, 8])


def test_a_token_deeper_in_the_tree_is_no_child_of_the_anchor():
    assert walk(one_hot([2, 0, 0]), Tree([7, 1, 2], [-1, 0, 1]), 0, greedy, ()) == ([0], [2])


def test_choices_are_asked_with_the_index_of_the_token_and_the_text_before_it():
    asked = []

    def choose(logits, index, text):
        asked.append((int(logits.argmax()), index, [*text]))
        return int(logits.argmax())

    walk(one_hot([1, 2, 8]), Tree([7, 1, 2], [-1, 0, 1]), 5, choose, [4, 3])
    assert [row[:2] for row in asked] == [(1, 5), (2, 6), (8, 7)]
    assert asked[-1][2] == [4, 3, 7, 1, 2]


@pytest.mark.parametrize("text", list(itertools.product([1, 2], repeat=3)))
def test_every_text_of_two_letters_comes_back_from_the_whole_tree(text):
    """A complete binary tree of depth two: the walk spells the network's text whatever it is."""
    tree, leaf = Tree([0]), {(): 0}
    for size in (1, 2):
        for prefix in itertools.product([1, 2], repeat=size):
            leaf[prefix] = tree.add(prefix[-1], leaf[prefix[:-1]], 0.5**size)
    logits = one_hot([0] * len(tree.tokens))
    for size in range(3):
        logits[leaf[text[:size]]] = one_hot([text[size]])[0]
    path, won = walk(logits, tree, 0, greedy, ())
    assert won == list(text)
    assert path == [leaf[text[:size]] for size in range(3)]


@pytest.mark.parametrize(
    ("history", "length", "want"),
    [
        ([1, 2, 3, 9, 1, 2, 3], 3, [9, 1, 2]),
        ([5, 8, 9, 8, 9], 5, [8, 9, 8, 9, 8]),  # it goes round
        ([1, 2, 3, 9, 1, 2, 3], 1, [9]),
        ([5, 1, 2, 8, 6, 1, 2, 7, 1, 2], 2, [7, 1]),  # the later of two places
        ([3, 1, 2, 8, 6, 1, 2, 7, 3, 1, 2], 2, [8, 6]),  # the longer of two endings
        ([1, 1, 1, 1], 3, [1, 1, 1]),
        ([1, 2], 3, []),
        ([1, 2, 3, 4], 3, []),
        ([4, 1, 2, 4], 3, []),  # a single token is no reason
        ([7], 3, []),
        ([], 3, []),
        ([1, 2, 1, 2], 0, []),
    ],
)
def test_repeat_continues_as_the_text_did_before(history, length, want):
    assert repeat(history, length)[0] == want


def test_repeat_agrees_with_a_slow_search():
    rng = np.random.default_rng(0)
    for _ in range(300):
        text = rng.integers(0, 3, rng.integers(0, 14)).tolist()
        want, matched = [], 0
        for size in range(16, 1, -1):
            starts = [i for i in range(len(text) - size) if text[i : i + size] == text[len(text) - size :]]
            if starts:
                want, matched = (text[starts[-1] + size :] * 5)[:5], size
                break
        assert repeat(text, 5) == (want, matched)
