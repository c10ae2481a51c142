"""MDLM against brute force: with exact conditionals its bound is -log p of every sequence, whatever the schedule."""

import itertools

import numpy as np
import pytest
import torch

from mezzotint.batch import Batch
from mezzotint.families.mdlm import MDLM
from mezzotint.processes.subs import subs
from mezzotint.rng import Rng
from mezzotint.schedules import Cosine, Linear, Polynomial

REAL, LENGTH = 3, 3
MASK = REAL
SEQUENCES = list(itertools.product(range(REAL), repeat=LENGTH))


@pytest.fixture(scope="module")
def source():
    """A random distribution over all sequences, Float64[3, 3, 3]."""
    p = torch.rand(REAL, REAL, REAL, dtype=torch.float64, generator=torch.Generator().manual_seed(5)) ** 3
    return p / p.sum()


def conditionals(source, x_t):
    """log p(x_0 column | revealed columns), Float64[1, 3, 4]."""
    rows = []
    for column in range(LENGTH):
        scores = [
            sum(
                float(source[x])
                for x in SEQUENCES
                if x[column] == token and all(s in (MASK, y) for s, y in zip(x_t, x, strict=True))
            )
            for token in range(REAL)
        ]
        rows.append([*scores, 0.0])
    return torch.tensor([rows], dtype=torch.float64).log()


def bound(family, source, x_0):
    """The NELBO by quadrature over t and enumeration over masks."""
    nodes, weights = np.polynomial.legendre.leggauss(200)
    total = 0.0
    clean = torch.tensor([x_0])
    for hidden in itertools.product([False, True], repeat=LENGTH):
        x_t = tuple(MASK if gone else token for gone, token in zip(hidden, x_0, strict=True))
        raw, noisy, masks = conditionals(source, x_t), torch.tensor([x_t]), sum(hidden)
        t = torch.tensor((nodes + 1) / 2, dtype=torch.float64)[:, None]
        a = family.process.alpha(t)[:, 0]
        chance = (1 - a) ** masks * a ** (LENGTH - masks) * torch.tensor(weights) / 2
        size = len(t)
        nats = family.objective.token_loss(raw.expand(size, -1, -1), clean.expand(size, -1), noisy.expand(size, -1), t)
        total += float((nats.sum(1) * chance).sum())
    return total


@pytest.mark.parametrize("schedule", [Linear(eps=0), Cosine(eps=0), Polynomial(eps=0)], ids=repr)
def test_the_bound_is_exact_with_exact_conditionals(source, schedule):
    family = MDLM(schedule=schedule).build(REAL + 1, MASK)
    found = torch.tensor([bound(family, source, x) for x in SEQUENCES[::4]])
    wanted = torch.tensor([-float(source[x].log()) for x in SEQUENCES[::4]])
    torch.testing.assert_close(found, wanted, rtol=1e-6, atol=1e-6)


def test_a_uniform_predictor_costs_log_n_per_token():
    family = MDLM().build(REAL + 1, MASK)
    tokens = torch.randint(0, REAL, (512, 32), generator=torch.Generator().manual_seed(0))
    batch = Batch(tokens, torch.ones_like(tokens, dtype=torch.bool))
    loss = family.objective(lambda inputs, t: torch.zeros(*inputs.x.shape, REAL + 1), batch, Rng(0))
    torch.testing.assert_close(loss.total, torch.tensor(REAL).log(), rtol=0.03, atol=0)


def test_only_target_tokens_are_noised_and_counted():
    family = MDLM().build(REAL + 1, MASK)
    tokens = torch.zeros(64, 8, dtype=torch.long)
    target = torch.zeros(64, 8, dtype=torch.bool)
    target[:, 5:] = True

    def denoiser(inputs, t):
        assert (inputs.x[:, :5] == 0).all()
        return torch.zeros(*inputs.x.shape, REAL + 1)

    loss = family.objective(denoiser, Batch(tokens, target), Rng(1))
    assert int(loss.count) == 64 * 3
    assert not loss.per_token[:, :5].any()


def test_subs_puts_no_mass_on_the_mask_and_keeps_revealed_tokens():
    raw = torch.randn(2, 3, REAL + 1, generator=torch.Generator().manual_seed(1))
    p0 = subs(raw, torch.tensor([[MASK, 1, MASK], [0, MASK, 2]]), MASK).exp()
    assert (p0[..., MASK] == 0).all()
    torch.testing.assert_close(p0.sum(-1), torch.ones(2, 3))
    assert p0[0, 1].tolist() == [0, 1, 0, 0]
