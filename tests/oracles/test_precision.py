"""What float32 Gumbel noise loses, shown on its own arithmetic, and that our draws lose nothing (2409.02908).

Published samplers draw argmax of p / (1e-10 - log(u + 1e-10)) with u in float32, one of 2^24 values.  A token of small
probability p wins against [MASK] where its exponential lies below a bound that the grid cannot reach, so it is revealed
too rarely: as if the temperature were lower.
"""

import math

import pytest
import torch

from mezzotint.rng import draw, uniform

VOCAB = 50257


@pytest.fixture(scope="module")
def exponentials():
    """The published noise of every float32 value that torch.rand can give."""
    u = torch.arange(2**24, dtype=torch.float32) / 2**24
    return (1e-10 - (u + 1e-10).log()).double()


def revealed(exponentials, steps, q):
    """Share of its due with which a token of probability q is revealed in one of `steps` steps, for this noise."""
    odds = (1 - 1 / steps) / (q / steps)  # of [MASK] against the token
    return float(torch.exp(-exponentials * odds).mean()) * (1 + odds)


@pytest.mark.parametrize(
    ("steps", "q", "wanted"),
    [
        (32, 1 / VOCAB, 0.9543),
        (128, 1 / VOCAB, 0.8217),
        (1024, 1e-2, 0.9970),
        (1024, 1e-3, 0.9698),
        (1024, 1e-4, 0.7259),
        (1024, 1e-5, 0.01374),
        (1024, 1 / VOCAB, 0.1500),
        (4096, 1 / VOCAB, 5.8e-5),
    ],
)
def test_the_published_noise_reveals_rare_tokens_too_rarely(exponentials, steps, q, wanted):
    assert revealed(exponentials, steps, q) == pytest.approx(wanted, rel=0.03)


def test_the_largest_published_gumbel_noise(exponentials):
    assert float(-exponentials[-1].log()) == pytest.approx(16.63386, abs=2e-3)


def test_our_noise_reaches_a_million_times_further():
    # 52 bits: along the tail, every multiple of 2^-52 is there
    tail = 1 - (torch.arange(2**14, dtype=torch.float64) + 0.5) * 2.0**-52
    assert float(-(-tail[0].log()).log()) > 36
    e = -tail.log()
    for odds in (1e8, 1e10):
        inside = float(torch.exp(-e * odds).mean()) * 2**14 * 2.0**-52 * odds
        assert inside == pytest.approx(-math.expm1(-odds * 2.0**-38), rel=1e-6)


class Extreme:
    """Noise as far up as a grid of uniforms allows."""

    def __init__(self, largest):
        self.largest = largest

    def fork(self, name):
        return self

    def uniform(self, shape, device=None):
        return torch.full(shape, self.largest, dtype=torch.float64)


def test_a_draw_gives_a_token_of_one_in_a_trillion_its_chance():
    p = torch.tensor([[[1 - 1e-12, 1e-12]]])
    assert draw(p, Extreme(1 - 2.0**-53)).item() == 1
    assert draw(p, Extreme(1 - 2.0**-24)).item() == 0


def test_the_last_number_draws_no_token_without_a_chance():
    p = torch.tensor([[[0.1, 0.2, 0.7, 0.0, 0.0], [0.0, 3.0, 0.0, 0.0, 0.0]]])
    assert draw(p, Extreme(1.0)).tolist() == [[2, 1]]
    assert draw(p, Extreme(2.0**-60)).tolist() == [[0, 1]]


def test_uniforms_use_their_low_bits():
    u = uniform(torch.arange(200_000), 0, 0)
    low = (u * 2.0**52).long() % 256
    assert torch.bincount(low, minlength=256).double().sub(200_000 / 256).abs().max() < 6 * (200_000 / 256) ** 0.5
