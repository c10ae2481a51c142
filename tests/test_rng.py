"""Noise is a function of (seed, step, column, token) and of nothing else."""

import numpy as np
import torch

from mezzotint.rng import Rng, draw, row_seeds, uniform


def test_torch_and_numpy_give_the_same_bits():
    seeds = row_seeds(7, 3)
    torched = Rng(7, 5).uniform((3, 4, 6)).numpy()
    keys = np.array(seeds, dtype=np.uint64)[:, None, None], 5, np.arange(4)[None, :, None], np.arange(6)[None, None]
    np.testing.assert_array_equal(torched, uniform(*keys))


def test_the_hash_never_changes():
    assert [float(uniform(seed, 1, 2, 3)) for seed in (0, 1, -1)] == [
        float(uniform(np.array([seed], dtype=np.int64).astype(np.uint64), 1, 2, 3)[0]) for seed in (0, 1, -1)
    ]
    np.testing.assert_array_equal(uniform(5, 1, 2, 3), 0.818167805585536)


def test_a_row_does_not_depend_on_its_neighbours():
    seeds = torch.tensor([11, 22, 33])
    together = Rng(seeds, torch.tensor([1, 2, 3])).uniform((3, 8, 5))
    alone = Rng(seeds[1:2], 2).uniform((1, 8, 5))
    assert torch.equal(together[1:2], alone)


def test_columns_do_not_depend_on_the_shape_asked_for():
    assert torch.equal(Rng(3).uniform((2, 9))[:, :4], Rng(3).uniform((2, 4)))
    assert torch.equal(Rng(3).uniform((2, 4, 7))[..., 0], Rng(3).uniform((2, 4)))


def test_uniforms_are_uniform_and_uncorrelated():
    noise = Rng(0).uniform((64, 64, 64))
    counts = torch.histc(noise, 64, 0, 1)
    expected = noise.numel() / 64
    assert float(((counts - expected) ** 2 / expected).sum()) < 120  # chi-square, 63 degrees: p < 1e-5 above
    for axis in range(3):
        left, right = noise.narrow(axis, 0, 63).flatten(), noise.narrow(axis, 1, 63).flatten()
        assert float(torch.corrcoef(torch.stack([left, right]))[0, 1].abs()) < 0.01


def test_forks_and_steps_are_different_noise():
    rng = Rng(4)
    variants = [rng, rng.at(1), rng.fork(0), rng.fork(1), Rng(5)]
    values = torch.stack([source.uniform((1, 6))[0] for source in variants])
    assert values.unique().numel() == values.numel()
    assert torch.equal(rng.fork(1).uniform((1, 6)), Rng(4).fork(1).uniform((1, 6)))


def test_draws_follow_the_probabilities():
    p = torch.tensor([0.5, 0.3, 0.2, 0.0])
    tokens = draw(p.expand(100, 200, 4), Rng(2))
    share = torch.bincount(tokens.flatten(), minlength=4) / tokens.numel()
    torch.testing.assert_close(share, p, atol=0.01, rtol=0)
