"""Times are uniform one by one, and evenly spread together."""

import pytest
import torch

from mezzotint.batch import Batch
from mezzotint.objectives.times import Clipped, PerBlock, whole
from mezzotint.rng import Rng

BATCH = Batch(torch.zeros(8, 12, dtype=torch.long), torch.ones(8, 12, dtype=torch.bool))


def test_whole_puts_one_time_in_each_cell():
    t = whole(BATCH, Rng(3))
    assert t.shape == (8, 1)
    torch.testing.assert_close(t.flatten().sort().values.diff(), torch.full((7,), 1 / 8))


@pytest.mark.parametrize("times", [whole, PerBlock(4)])
def test_each_time_alone_is_uniform(times):
    first = torch.stack([times(BATCH, Rng(0, step))[5, 7 % times(BATCH, Rng(0)).shape[1]] for step in range(2000)])
    counts = torch.histc(first, 10, 0, 1)
    assert float(((counts - 200) ** 2 / 200).sum()) < 35  # chi-square, 9 degrees: p < 1e-4 above


def test_blocks_have_one_time_each():
    t = PerBlock(4)(BATCH, Rng(1))
    assert t.shape == (8, 12)
    assert torch.equal(t.reshape(8, 3, 4).amax(-1), t.reshape(8, 3, 4).amin(-1))
    assert t.unique().numel() == 24


def test_clipped_times_stay_inside():
    t = Clipped(whole, 0.3, 0.8)(BATCH, Rng(2))
    assert float(t.min()) >= 0.3
    assert float(t.max()) <= 0.8


def test_rows_with_their_own_seeds_are_served():
    assert whole(BATCH, Rng(torch.arange(8))).shape == (8, 1)
