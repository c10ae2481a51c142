"""A plan must visit every open column, and its budgets must add up."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mezzotint.decode.canvas import infill, write
from mezzotint.decode.plan import Blocks, linear
from mezzotint.errors import CanvasError
from mezzotint.processes.absorbing import Absorbing
from mezzotint.schedules import Linear

PROCESS = Absorbing(12, 11, Linear())


@given(st.integers(0, 64), st.integers(1, 64))
def test_1_a_linear_schedule_shares_everything_out_evenly_and_early(total, steps):
    shares = [int(linear(torch.tensor([total]), torch.tensor([total]), k, steps)) for k in range(steps)]
    assert sum(shares) == total
    assert max(shares) - min(shares) <= 1
    assert shares == sorted(shares, reverse=True)


@given(st.integers(1, 40), st.integers(1, 50), st.lists(st.integers(0, 9), min_size=1, max_size=3))
def test_windows_cover_each_answer_once_from_left_to_right(length, size, prompts):
    canvas = write([[1] * n for n in prompts], length, PROCESS.prior)
    steps = [step for step in Blocks(size, steps=1)(canvas)]
    columns = torch.cat([step.window.columns() for step in steps], -1)
    assert torch.equal(columns, torch.tensor(prompts)[:, None] + torch.arange(length))
    assert all(step.window.size == size for step in steps[:-1])


def test_windows_without_a_hole_are_skipped():
    canvas = infill([[1, None, 1, 1, 1, 1, None, 1]], PROCESS.prior)
    assert [step.window.start.tolist() for step in Blocks(2, steps=1)(canvas)] == [[1], [5]]


def test_a_finished_window_is_left_early_when_the_plan_is_told():
    canvas = write([[1]], 8, PROCESS.prior)
    steps = Blocks(4)(canvas)
    first = next(steps)
    canvas.open[0, 1:5] = False
    second = steps.send(canvas)
    assert (first.window.start.item(), second.window.start.item()) == (1, 5)


def test_a_lag_of_one_spends_one_step_more():
    canvas = write([[1]], 8, PROCESS.prior)
    steps = Blocks(4, lag=1)(canvas)
    next(steps)
    canvas.open[0, 1:5] = False
    assert [steps.send(canvas).window.start.item() for _ in range(2)] == [1, 5]


def test_time_runs_from_noise_to_clean_inside_every_window():
    canvas = write([[1]], 6, PROCESS.prior)
    times = [(step.k, step.t.item(), step.s.item()) for step in Blocks(3, steps=2)(canvas)]
    assert times == [(0, 1.0, 0.5), (1, 0.5, 0.0)] * 2


@pytest.mark.parametrize("bad", [{"size": 0}, {"size": -3}, {"size": 4, "steps": 0}])
def test_blocks_and_steps_below_one_are_refused(bad):
    with pytest.raises(CanvasError, match="at least 1"):
        Blocks(**bad)
