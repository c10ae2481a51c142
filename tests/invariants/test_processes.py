"""A process must agree with itself: noising to t and stepping back to s is the same as noising to s."""

import pytest
import torch
import torch.nn.functional as F

from mezzotint.errors import VocabularyError
from mezzotint.processes.absorbing import Absorbing
from mezzotint.rng import Rng
from mezzotint.schedules import Cosine, Geometric, Linear, Polynomial

VOCAB, MASK = 5, 4
SCHEDULES = [Linear(), Linear(eps=0), Cosine(), Cosine(power=2), Polynomial(), Polynomial(power=0.5), Geometric()]
TIMES = [(0.9, 0.4), (0.5, 0.49), (1.0, 0.01)]


def survival(schedule, time):
    return schedule.alpha(torch.tensor([[time]], dtype=torch.float64))


def marginal(alpha, clean):
    return alpha[..., None] * clean + (1 - alpha[..., None]) * one_hot(MASK)


def one_hot(token):
    return F.one_hot(torch.tensor([[token]]), VOCAB).double()


@pytest.mark.parametrize("schedule", SCHEDULES, ids=repr)
@pytest.mark.parametrize(("t", "s"), TIMES)
def test_posterior_marginalises_to_the_forward_process(schedule, t, s):
    process, clean = Absorbing(VOCAB, MASK, schedule), one_hot(2)
    a_t, a_s = survival(schedule, t), survival(schedule, s)
    q_t = marginal(a_t, clean)
    back = sum(
        q_t[..., x, None] * process.posterior(clean, torch.tensor([[x]]), a_t, a_s)
        for x in range(VOCAB)
        if q_t[0, 0, x]
    )
    torch.testing.assert_close(back, marginal(a_s, clean))


@pytest.mark.parametrize("schedule", SCHEDULES, ids=repr)
def test_two_posterior_steps_are_one(schedule):
    process = Absorbing(VOCAB, MASK, schedule)
    p0 = torch.tensor([[[0.1, 0.2, 0.3, 0.4, 0.0]]], dtype=torch.float64)
    a_t, a_s, a_r = (survival(schedule, u) for u in (0.9, 0.6, 0.2))
    masked = torch.tensor([[MASK]])
    middle = process.posterior(p0, masked, a_t, a_s)
    twice = sum(middle[..., x, None] * process.posterior(p0, torch.tensor([[x]]), a_s, a_r) for x in range(VOCAB))
    torch.testing.assert_close(twice, process.posterior(p0, masked, a_t, a_r))


@pytest.mark.parametrize("schedule", SCHEDULES, ids=repr)
def test_posterior_rows_sum_to_one(schedule):
    process = Absorbing(VOCAB, MASK, schedule)
    p0 = torch.rand(2, 3, VOCAB, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    p0[..., MASK] = 0
    x_t = torch.tensor([[0, MASK, 2], [MASK, MASK, 1]])
    rows = process.posterior(p0 / p0.sum(-1, keepdim=True), x_t, survival(schedule, 0.7), survival(schedule, 0.3))
    torch.testing.assert_close(rows.sum(-1), torch.ones(2, 3, dtype=torch.float64))


@pytest.mark.parametrize("schedule", SCHEDULES, ids=repr)
def test_schedule_falls_and_its_derivative_and_inverse_agree_with_it(schedule):
    t = torch.linspace(0.01, 0.99, 50, dtype=torch.float64, requires_grad=True)
    alpha = schedule.alpha(t)
    (slope,) = torch.autograd.grad(alpha.sum(), t)
    assert (alpha.diff() < 0).all()
    torch.testing.assert_close(schedule.dalpha(t.detach()), slope)
    torch.testing.assert_close(schedule.time(alpha.detach()), t.detach())


@pytest.mark.parametrize("schedule", SCHEDULES, ids=repr)
def test_schedule_runs_from_clean_to_noise(schedule):
    ends = schedule.alpha(torch.tensor([0.0, 1.0], dtype=torch.float64))
    torch.testing.assert_close(ends, torch.tensor([1.0, 0.0], dtype=torch.float64), atol=2e-3, rtol=0)


def test_corruption_masks_the_scheduled_share():
    process = Absorbing(VOCAB, MASK, Linear(eps=0))
    x_0 = torch.zeros(64, 512, dtype=torch.long)
    t = torch.linspace(0, 1, 64)[:, None]
    share = (process.corrupt(x_0, t, Rng(1)) == MASK).double().mean(1, keepdim=True)
    torch.testing.assert_close(share, t.double(), atol=0.08, rtol=0)
    assert share[0] == 0
    assert share[-1] == 1


def test_prior_is_all_mask_and_held_columns_stay_clean():
    process = Absorbing(VOCAB, MASK, Linear())
    noise = process.prior((2, 3), None, Rng(0))
    assert (noise == MASK).all()
    fixed = torch.tensor([[True, False, False], [False, False, True]])
    held = process.hold(noise, torch.ones(2, 3, dtype=torch.long), fixed)
    assert torch.equal(held == 1, fixed)


def test_a_mask_outside_the_vocabulary_is_refused():
    with pytest.raises(VocabularyError, match="ids 0 to 4"):
        Absorbing(VOCAB, VOCAB, Linear())
