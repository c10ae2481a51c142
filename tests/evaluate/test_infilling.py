"""The share of missing tokens that were found, and how sure it is."""

import pytest
import torch

from mezzotint.evaluate.infilling import found


def test_holes_of_one_size_give_the_mean_over_texts_and_its_standard_error():
    right = torch.rand(40, 6, generator=torch.Generator().manual_seed(1)) < 0.3
    shares = right.double().mean(1)
    made = found(right, torch.ones_like(right))
    assert made.share == pytest.approx(float(shares.mean()))
    assert made.error == pytest.approx(float(shares.std() / 40**0.5))
    assert made.tokens == 240


def test_holes_of_several_sizes_count_by_their_tokens():
    holes = torch.tensor([[True, True, True, False], [True, False, False, False]])
    right = torch.tensor([[True, False, False, False], [True, False, False, False]])
    assert found(right, holes).share == 0.5
