"""Masks say exactly who sees whom."""

import pytest
import torch

from mezzotint.errors import CanvasError
from mezzotint.layouts import (
    Attend,
    BlockCausal,
    CausalNoisyThenClean,
    DecidedFirst,
    Full,
    NoisyThenClean,
    PrefixFull,
)
from mezzotint.masks import block_causal, causal

TOKENS = torch.arange(12)[None]


def seen(layout):
    return layout.arrange(TOKENS, TOKENS).attend.dense()[0, 0]


def test_full_needs_no_mask():
    inputs = Full().arrange(TOKENS, TOKENS)
    assert inputs.attend.dense() is None
    assert Full().extract(inputs.x) is inputs.x


def test_one_block_is_full_and_blocks_of_one_are_causal():
    assert BlockCausal(12).arrange(TOKENS, TOKENS).attend.dense() is None
    assert torch.equal(seen(BlockCausal(1)), Attend(12, 12, causal).dense()[0, 0])


def test_a_block_behind_whole_blocks_needs_no_mask_and_two_blocks_do():
    assert Attend(4, 12, block_causal(4, before=8)).dense() is None
    assert Attend(2, 10, block_causal(4, before=8)).dense() is None
    assert not Attend(8, 12, block_causal(4, before=4)).dense().all()


@pytest.mark.parametrize("block", [1, 2, 3, 4, 6, 12])
def test_noisy_then_clean_allows_the_published_number_of_pairs(block):
    assert int(seen(NoisyThenClean(block)).sum()) == 12 * 12 + 12 * block  # L^2 + L L', 2503.09573


def test_noisy_blocks_see_themselves_and_the_clean_past_only():
    mask = seen(NoisyThenClean(4))
    noisy_second_block = torch.zeros(24, dtype=torch.bool)
    noisy_second_block[4:8] = True
    noisy_second_block[12:16] = True
    assert torch.equal(mask[5], noisy_second_block)
    assert not mask[12:, :12].any()
    assert torch.equal(mask[12:, 12:], seen(BlockCausal(4)))


def test_noisy_then_clean_repeats_positions_and_gives_back_the_noisy_half():
    layout = NoisyThenClean(3)
    inputs = layout.arrange(TOKENS + 100, TOKENS)
    assert inputs.positions.tolist() == [*range(12), *range(12)]
    assert torch.equal(layout.extract(inputs.x), TOKENS + 100)


@pytest.mark.parametrize("block", [1, 2, 3, 4, 6, 12])
def test_the_causal_halves_see_nothing_that_is_read_after_them(block):
    mask = seen(CausalNoisyThenClean(block))
    at = torch.arange(12)
    assert torch.equal(mask[12:, 12:], at[:, None] >= at)
    assert not mask[12:, :12].any()
    assert torch.equal(mask[:12, :12], (at[:, None] >= at) & (at[:, None] // block == at // block))
    assert torch.equal(mask[:12, 12:], at[:, None] // block > at // block)


def test_decided_columns_of_a_block_come_before_its_masks_row_by_row():
    mask_id = 50
    x_t = torch.tensor([[mask_id, 1, 2, mask_id], [3, mask_id, mask_id, 4]])
    layout = CausalNoisyThenClean(4, DecidedFirst(mask_id))
    attend = layout.arrange(x_t, torch.arange(4).expand(2, -1)).attend
    seen = attend.dense()[:, 0, :4, :4]
    for row, order in enumerate(([1, 2, 0, 3], [0, 3, 1, 2])):
        for place, column in enumerate(order):
            assert seen[row, column].nonzero()[:, 0].tolist() == sorted(order[: place + 1])
    last = attend.of(torch.tensor([1]))
    assert torch.equal(last.dense(), attend.dense()[1:])
    assert torch.equal(attend.of(torch.tensor([1, 1, 0])).dense(), attend.dense()[[1, 1, 0]])


def test_columns_that_are_no_whole_number_of_blocks_are_refused():
    with pytest.raises(CanvasError, match="use 10 or 15 columns"):
        NoisyThenClean(5).arrange(TOKENS, TOKENS)
    with pytest.raises(CanvasError, match="use 10 or 15 columns"):
        CausalNoisyThenClean(5).arrange(TOKENS, TOKENS)


def test_a_prefix_sees_only_itself():
    mask = seen(PrefixFull(5))
    assert mask[:5, :5].all()
    assert not mask[:5, 5:].any()
    assert mask[5:].all()


def test_padding_is_seen_by_nobody():
    valid = torch.ones(2, 12, dtype=torch.bool)
    valid[1, 9:] = False
    mask = Attend(12, 12, causal, valid).dense()
    assert mask.shape == (2, 1, 12, 12)
    assert not mask[1, :, :, 9:].any()
    assert torch.equal(Attend(12, 12, valid=valid).dense().expand(2, 1, 12, 12)[0], torch.ones(1, 12, 12).bool())
