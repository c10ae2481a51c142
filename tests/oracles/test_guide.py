"""Guidance by a classifier draws from the source given the class; first order is exact for an additive judge."""

import pytest
import torch
import torch.nn.functional as F
from sources import TOKEN
from strings import chi_square, last

from mezzotint.decode.canvas import infill
from mezzotint.decode.guidance.classifier import ClassifierGuided, FreeGuided, both, every, expanded
from mezzotint.decode.loop import decode
from mezzotint.decode.plan import Blocks
from mezzotint.decode.samplers.time_grid import TimeGrid
from mezzotint.families import udlm
from mezzotint.processes.uniform import Uniform
from mezzotint.schedules import Linear

VOCAB = 4
PROCESS = Uniform(VOCAB, Linear(eps=0))
RAW = torch.randn(2, 3, VOCAB, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
OTHER = torch.randn(2, 3, VOCAB, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
X_T = torch.tensor([[0, 1, 2], [3, 3, 1]])
T, S = (torch.full((2, 1), time, dtype=torch.float64) for time in (0.7, 0.4))
TABLE = torch.randn(3, VOCAB, generator=torch.Generator().manual_seed(2))


def chances(raw, x_t, t, s):
    return udlm.step(PROCESS, raw, x_t, t, s)


def additive(x, t):
    """A judge whose log-probability is a sum over columns."""
    soft = x if x.is_floating_point() else F.one_hot(x, VOCAB).float()
    return (soft * TABLE).sum((-1, -2))


def test_first_order_is_exact_for_a_judge_that_adds_up():
    torch.testing.assert_close(expanded(additive, X_T, T, VOCAB), every(additive, X_T, T, VOCAB))


def test_replacing_a_column_by_itself_changes_nothing():
    found = every(additive, X_T, T, VOCAB).gather(-1, X_T[..., None])[..., 0]
    torch.testing.assert_close(found, additive(X_T, T)[:, None].expand(2, 3))


@pytest.mark.parametrize(("gamma", "part"), [(1.0, RAW), (0.0, OTHER)])
def test_at_one_and_zero_guidance_is_one_of_its_parts(gamma, part):
    mixed = FreeGuided(chances, gamma).mixed(torch.cat([RAW, OTHER], -1), X_T, T, S)
    torch.testing.assert_close(mixed, chances(part, X_T, T, S))


def test_no_weight_on_the_judge_is_no_guidance():
    for lookup in (every, expanded):
        mixed = ClassifierGuided(chances, additive, 0.0, lookup).mixed(RAW, X_T, T, S)
        torch.testing.assert_close(mixed, chances(RAW, X_T, T, S))


def test_more_guidance_brings_more_of_the_class():
    liked = [
        float((ClassifierGuided(chances, additive, gamma, every).mixed(RAW, X_T, T, S) * TABLE).sum())
        for gamma in (0, 1, 2, 4)
    ]
    assert liked == sorted(liked)


def test_an_exact_judge_draws_the_source_given_the_class():
    process, rows = Uniform(TOKEN.real, Linear(eps=0)), 20_000
    told = torch.tensor([0.9, 0.2, 0.5], dtype=torch.float64)  # p(class | x_0)
    prior = TOKEN.p

    def judge(x, t):
        a = process.alpha(t)
        here = F.one_hot(x[:, 0], TOKEN.real).double()
        joint = prior * (a * here + (1 - a) / TOKEN.real)
        return ((joint * told).sum(-1) / joint.sum(-1)).log()

    def step(raw, x_t, t, s):
        return udlm.step(process, raw, x_t, t, s)

    rule = TimeGrid(ClassifierGuided(step, judge, 1.0, every, arrived=True))
    canvas = infill([[None]] * rows, process.prior)
    written = last(decode(canvas, lambda c, s: prior.log().expand(rows, 1, -1), rule, Blocks(1, 8))).tokens
    counts = torch.bincount(written[:, 0], minlength=TOKEN.real).double()
    wanted = prior * told
    assert chi_square(counts, wanted / wanted.sum()) < 4


def test_two_answers_stand_side_by_side():
    canvas = infill([[None] * 3] * 2, PROCESS.prior)
    step = next(iter(Blocks(3, 4)(canvas)))
    raw = both(lambda c, s: RAW, lambda c, s: OTHER)(canvas, step)
    torch.testing.assert_close(raw.chunk(2, -1)[1], OTHER)
    assert FreeGuided(chances, 2.0)(raw, X_T, T, S, canvas.rng).shape == X_T.shape
