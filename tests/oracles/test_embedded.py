"""Where a shorter text may stand in a longer one, by listing all places."""

import itertools

import pytest
import torch

from mezzotint.objectives.variable_length import anchor
from mezzotint.processes.subsequence_posterior import embedded, runs

BLANK = 9


def listed(part, whole):
    """The posteriors, from all ways to choose the columns of `part` in `whole`."""
    held, missing = torch.zeros(2, len(part), len(whole), dtype=torch.float64)
    found = [
        columns
        for columns in itertools.combinations(range(len(whole)), len(part))
        if all(whole[column] == token for column, token in zip(columns, part, strict=True))
    ]
    for columns in found:
        for i, column in enumerate(columns):
            held[i, column] += 1 / len(found)
        for column in set(range(len(whole))) - set(columns):
            i = sum(other < column for other in columns) - 1
            if i >= 0:
                missing[i, column] += 1 / len(found)
    return held, missing


@pytest.mark.parametrize("part", [(0,), (0, 1), (0, 1, 1), (0, 1, 0, 1, 1, 0), (0, 0)])
def test_all_places_are_counted(part):
    whole = (0, 1, 0, 1, 1, 0)
    match = torch.tensor([[[a == b for b in whole] for a in part] + [[False] * len(whole)]])
    held, missing = embedded(match, torch.ones(1, len(whole), dtype=torch.bool), torch.tensor([len(part)]))
    wanted = listed(part, whole)
    torch.testing.assert_close(held[0, : len(part)], wanted[0])
    torch.testing.assert_close(missing[0, : len(part)], wanted[1])


def test_texts_of_a_thousand_columns_keep_their_digits():
    whole = torch.zeros(1, 1000, dtype=torch.long)
    match = torch.ones(1, 500, 1000, dtype=torch.bool)
    held, missing = embedded(match, torch.ones_like(whole, dtype=torch.bool), torch.tensor([500]))
    # one token repeated: every choice of columns is possible, so the first is held at the front with probability 1 / 2
    torch.testing.assert_close(held[0].sum(0), torch.full((1000,), 0.5, dtype=torch.float64))
    torch.testing.assert_close(held[0].sum(1), torch.ones(500, dtype=torch.float64))
    # all gaps of an even choice are equally wide
    torch.testing.assert_close(missing[0].sum(1), torch.full((500,), 500 / 501, dtype=torch.float64))


def test_given_text_is_where_it_is_and_what_ends_a_row_is_nowhere():
    clean = torch.tensor([[1, 1, 0, 1, 1, BLANK]])
    given = torch.tensor([[False, False, True, False, False, True]])
    path = anchor(torch.tensor([[BLANK, 1, 0, 1, BLANK, BLANK]]), clean, given, BLANK)
    held, missing = path.placed((path.noisy[:, :, None] == path.clean[:, None]) & (path.clean != BLANK)[:, None])
    half = torch.tensor(0.5, dtype=torch.float64)
    for token, columns in ((2, (1, 2)), (4, (4, 5))):
        for column in columns:
            torch.testing.assert_close(held[0, token, column], half)
    assert float(held[0, 3, 3]) == 1
    for gap, column in ((0, 1), (2, 2), (3, 4), (4, 5)):
        torch.testing.assert_close(missing[0, gap, column], half)
    assert not held[0, :, 6].any()


def test_runs_begin_where_nothing_goes_on():
    same = torch.tensor([[False, True, True, False, True, False]])
    assert runs(same).tolist() == [[0, 0, 0, 3, 3, 5]]
