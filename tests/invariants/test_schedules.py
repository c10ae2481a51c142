"""Every schedule falls from where it says to where it says, and its derivative and inverse belong to it (float64)."""

import math

import pytest
import torch
from pydantic import TypeAdapter

from mezzotint.processes.markov import beta_schedules
from mezzotint.processes.markov.chain import survival
from mezzotint.schedules import (
    Cosine,
    Dimmed,
    Exponential,
    Floored,
    Geometric,
    Linear,
    Logarithmic,
    Polynomial,
    Schedule,
    Sqrt,
    noise_rate,
    total_noise,
)

ENDS = {
    Linear(): (1.0, 1e-3),
    Linear(eps=0): (1.0, 0.0),
    Cosine(): (1.0, 1e-3),
    Cosine(power=2, eps=0): (1.0, 0.0),
    Polynomial(eps=0): (1.0, 0.0),
    Polynomial(power=0.5): (1.0, 1e-3),
    Geometric(): (math.exp(-1e-3), math.exp(-20)),
    Exponential(): (1.0, math.exp(-10)),
    Logarithmic(): (1.0, 0.0),
    Sqrt(): (0.99, 0.0),
    Sqrt(s=0): (1.0, 0.0),
    Dimmed(Cosine(eps=0), 0.01): (0.99, 0.0),
}


@pytest.fixture(params=ENDS, ids=repr)
def schedule(request):
    return request.param


def test_it_falls_and_has_its_derivative_and_inverse(schedule):
    t = torch.linspace(0.01, 0.99, 99, dtype=torch.float64, requires_grad=True)
    alpha = schedule.alpha(t)
    (slope,) = torch.autograd.grad(alpha.sum(), t)
    assert bool((alpha.diff() < 0).all())
    torch.testing.assert_close(schedule.dalpha(t.detach()), slope)
    torch.testing.assert_close(schedule.time(alpha.detach()), t.detach())


def test_it_runs_between_its_ends(schedule):
    ends = schedule.alpha(torch.tensor([0.0, 1.0], dtype=torch.float64))
    torch.testing.assert_close(ends, torch.tensor(ENDS[schedule], dtype=torch.float64), rtol=1e-9, atol=1e-9)


def test_total_noise_grows_at_its_rate(schedule):
    t = torch.linspace(0.01, 0.99, 99, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(total_noise(schedule, t).sum(), t)
    torch.testing.assert_close(noise_rate(schedule, t.detach()), slope)


def test_a_floor_holds_where_the_schedule_is_above_it():
    floored, t = Floored(Polynomial(eps=0), 0.1), torch.linspace(0, 1, 11, dtype=torch.float64)
    torch.testing.assert_close(floored.alpha(t), Polynomial(eps=0).alpha(t).clamp(max=0.9))


def test_a_table_of_even_steps_is_the_linear_schedule_and_others_end_near_zero():
    t = torch.linspace(0, 1, 51, dtype=torch.float64)
    torch.testing.assert_close(survival(beta_schedules.standard(50)), Linear(eps=0).alpha(t))
    for betas in (beta_schedules.cosine(50), beta_schedules.linear(50, 0.02, 0.9)):
        left = survival(betas)
        assert bool((left.diff() <= 0).all())
        assert left[0] == 1
        assert left[-1] < 1e-3


def test_the_root_is_the_published_one_up_to_its_shift():
    t = torch.tensor([1000 / 2000], dtype=torch.float64)
    torch.testing.assert_close(Sqrt().alpha(t), 1 - (t + 1e-4).sqrt(), rtol=0, atol=1e-4)


def test_every_schedule_is_known_by_name():
    assert TypeAdapter(Schedule).validate_python("sqrt") == Sqrt()


def test_known_values_of_total_noise():
    half = torch.tensor(0.5, dtype=torch.float64)
    assert float(total_noise(Linear(eps=1e-3), half)) == pytest.approx(0.6921476802268618, abs=1e-14)
    assert float(noise_rate(Linear(eps=1e-3), half)) == pytest.approx(1.9960039960039961, abs=1e-14)
    assert float(total_noise(Geometric(low=1e-4, high=20), half)) == pytest.approx(0.044721359549995794, abs=1e-15)
