"""D3PM's bound on the Markov source: known at every number of steps, and MDLM's at infinitely many."""

import math

import pytest
import torch
from sources import MARKOV, PAIR, TOKEN, masks
from test_sources import DISCRETE_BOUND

from mezzotint.families.d3pm import D3PM
from mezzotint.families.mdlm import MDLM
from mezzotint.schedules import Linear

VOCAB, MASK = MARKOV.real + 1, MARKOV.mask_id
X_0 = MARKOV.sequences


def absorbing(steps):
    """Nats of every sequence: the bound with exact conditionals, over all masks and all times of the chain."""
    family, total = D3PM(steps=steps).build(VOCAB, MASK), torch.zeros(81, dtype=torch.float64)
    for hidden in masks(MARKOV.length):
        x_t, k = X_0.masked_fill(hidden, MASK), int(hidden.sum())
        raw = torch.nn.functional.pad(MARKOV.masked(x_t).clamp_min(1e-300).log(), (0, 1))
        for i in range(1, steps + 1):
            chance = (i / steps) ** k * (1 - i / steps) ** (MARKOV.length - k)
            if chance:
                t = torch.full((81, 1), i / steps, dtype=torch.float64)
                total += chance / steps * family.bound.token_loss(raw, X_0, x_t, t).sum(-1)
    return total


@pytest.mark.parametrize("steps", [2, 4, 8, 16])
def test_the_absorbing_bound_is_the_known_one_at_every_number_of_steps(steps):
    assert float((MARKOV.p * absorbing(steps)).sum()) == pytest.approx(DISCRETE_BOUND[steps], abs=1e-9)


def test_with_more_steps_it_falls_to_that_of_masked_diffusion():
    # a gap that shrinks as 1 / T, extrapolated to none, leaves -log p of every sequence: MDLM's bound
    few, many = absorbing(8), absorbing(16)
    assert (MARKOV.p * few).sum() > (MARKOV.p * many).sum() > MARKOV.entropy
    torch.testing.assert_close(2 * many - few, -MARKOV.p.log(), rtol=0, atol=1e-2)


def test_a_step_of_the_chain_is_the_share_of_masked_diffusion_that_its_time_covers():
    steps, generator = 8, torch.Generator().manual_seed(0)
    d3pm, mdlm = D3PM(steps=steps, weight=0).build(VOCAB, MASK), MDLM(schedule=Linear(eps=0)).build(VOCAB, MASK)
    raw = torch.randn(81, 4, VOCAB, dtype=torch.float64, generator=generator)
    x_t = X_0.masked_fill(torch.rand(81, 4, generator=generator) < 0.6, MASK)
    for i in range(2, steps + 1):
        t = torch.full((81, 1), i / steps, dtype=torch.float64)
        step = d3pm.objective.token_loss(raw, X_0, x_t, t).masked_fill(x_t != MASK, 0.0)
        rate = mdlm.objective.token_loss(raw, X_0, x_t, t)
        # (alpha_s - alpha_t) / (1 - alpha_t) = 1 / i here, and the rate is 1 / t
        torch.testing.assert_close(step, rate / steps)


def test_the_weight_of_a_single_step():
    family = D3PM(steps=7, weight=0).build(VOCAB, MASK)
    raw = torch.tensor([[[0.5, 0.3, 0.2, 1.0]]], dtype=torch.float64).log()
    at = (torch.tensor([[0]]), torch.tensor([[MASK]]), torch.tensor([[4 / 7]], dtype=torch.float64))
    assert float(family.objective.token_loss(raw, *at)) == pytest.approx(math.log(2) / 4, abs=1e-14)


@pytest.mark.parametrize("steps", [4, 64])
def test_one_uniform_token_is_exact_with_its_distribution_at_any_number_of_steps(steps):
    family, total = D3PM(steps=steps, transition="uniform").build(VOCAB, MASK), torch.zeros(3, dtype=torch.float64)
    raw = torch.nn.functional.pad(TOKEN.p.log(), (0, 1)).expand(3, 1, -1)
    x_0 = TOKEN.sequences
    for i in range(1, steps + 1):
        t = torch.full((3, 1), i / steps, dtype=torch.float64)
        stay = 1 - i / steps
        for noise in range(3):
            x_t = torch.full((3, 1), noise)
            chance = (stay * (x_t == x_0).double() + (1 - stay) / 3)[:, 0]
            total += chance / steps * family.bound.token_loss(raw, x_0, x_t, t)[:, 0]
    torch.testing.assert_close(total, -TOKEN.p.log(), rtol=0, atol=1e-9)


def uniform_bound(source, steps, own):
    """Nats of every sequence under uniform noise, with the posterior that looks at a column's own token or does not."""
    family, count = D3PM(steps=steps, transition="uniform").build(VOCAB, MASK), len(source.sequences)
    x_0, x_t = source.sequences.repeat_interleave(count, 0), source.sequences.repeat(count, 1)
    total = torch.zeros(count, dtype=torch.float64)
    for i in range(1, steps + 1):
        t = torch.full((count**2, 1), i / steps, dtype=torch.float64)
        stay = 1 - i / steps
        raw = torch.nn.functional.pad(source.uniform(x_t, 1 - t, own).clamp_min(1e-300).log(), (0, 1))
        chance = (stay * (x_t == x_0).double() + (1 - stay) / source.real).prod(-1)
        nats = chance / steps * family.bound.token_loss(raw, x_0, x_t, t).sum(-1)
        total += nats.unflatten(0, (count, count)).sum(-1)
    return total


def test_under_uniform_noise_the_best_answer_does_not_look_at_its_own_token():
    # continuous-time values: -log p of every sequence without the own token; 1.5038983 and 2.8675794 on average with it
    few, many = (uniform_bound(PAIR, steps, own=False) for steps in (32, 64))
    torch.testing.assert_close(2 * many - few, -PAIR.p.log(), rtol=0, atol=5e-4)
    for source, wanted in ((TOKEN, 1.5038983), (PAIR, 2.8675794)):
        few, many = (float((source.p * uniform_bound(source, steps, own=True)).sum()) for steps in (32, 64))
        assert 2 * many - few == pytest.approx(wanted, abs=6e-3)
