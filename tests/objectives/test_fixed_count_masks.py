"""Exact numbers of masks, and where they stand."""

import pytest
import torch

from mezzotint.objectives.fixed_count_masks import Exactly
from mezzotint.rng import Rng

BLOCK, TRIALS = 8, 4000


def chosen(share, half_life, rows=TRIALS, columns=BLOCK, seed=1):
    return Exactly(BLOCK, half_life)(torch.full((rows, columns), share), Rng(seed))


@pytest.mark.parametrize("half_life", [None, 0.25])
@pytest.mark.parametrize("share", [0.001, 0.2, 0.5, 0.9, 1.0])
def test_26_the_number_of_masks_is_exact_in_every_block(share, half_life):
    found = chosen(share, half_life, rows=50, columns=3 * BLOCK).unflatten(1, (-1, BLOCK)).sum(-1)
    assert (found == round(share * BLOCK)).all()


def test_a_last_block_that_is_not_whole_has_its_own_number():
    found = chosen(0.5, 0.25, rows=20, columns=BLOCK + 4)
    assert (found[:, :BLOCK].sum(-1) == 4).all()
    assert (found[:, BLOCK:].sum(-1) == 2).all()


def test_blocks_have_shares_of_their_own():
    t = torch.tensor([[0.25] * BLOCK + [0.75] * BLOCK])
    found = Exactly(BLOCK)(t, Rng(2)).unflatten(1, (-1, BLOCK)).sum(-1)
    assert found.tolist() == [[2, 6]]


def chi_square(found):
    """The statistic of equal chances for the columns of Bool[n, BLOCK] with as many chosen in every row."""
    counts, rows, chance = found.sum(0).double(), found.shape[0], found.double().mean()
    # of draws without replacement: BLOCK - 1 degrees of freedom
    return float(((counts - rows * chance) ** 2).sum() / (rows * chance * (1 - chance)) * (BLOCK - 1) / BLOCK)


@pytest.mark.parametrize(("share", "half_life"), [(0.5, None), (0.875, None), (0.125, None)])
def test_26_columns_are_alike_without_weights(share, half_life):
    assert chi_square(chosen(share, half_life)) < 24.3  # 0.1 % of chi-square with 7 degrees


def test_26_with_almost_everything_masked_columns_become_alike():
    """One column of eight is left over; as the share goes to 1 every column is it equally often."""
    assert chi_square(Exactly(BLOCK, 0.25)(torch.full((TRIALS, BLOCK), 0.9374), Rng(3))) > 24.3
    wide = Exactly(64, 0.25)(torch.full((TRIALS, 64), 0.9921), Rng(3))
    halves = (~wide).unflatten(1, (2, 32)).any(-1).double().mean(0)
    assert abs(float(halves[0] - halves[1])) < 4 * TRIALS**-0.5


def test_26_the_last_masks_stand_at_the_end():
    few = chosen(0.125, 0.25).double().mean(0)
    # weights exp(lambda (1 - m) i), lambda = ln 2 / (0.25 * 8): one draw takes a column with its share of them
    weights = torch.exp(torch.log(torch.tensor(2.0)) / 2 * (1 - 0.125) * torch.arange(BLOCK).double())
    torch.testing.assert_close(few, weights / weights.sum(), atol=4 * (0.25 / TRIALS) ** 0.5, rtol=0)
    assert few[-1] > 5 * few[0]
    sharp = chosen(0.125, 0.01).double().mean(0)
    assert sharp[-1] > 0.99


def test_choices_repeat_with_their_seed_and_differ_by_row():
    one, again, other = (chosen(0.5, 0.25, rows=8, seed=seed) for seed in (5, 5, 6))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)
    assert len({tuple(row) for row in one.tolist()}) > 1
