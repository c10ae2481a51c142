"""Gaussian noise must agree with itself: noising to t and stepping back to s is the same as noising to s."""

import pytest
import torch

from mezzotint.errors import ConfigError, VocabularyError
from mezzotint.processes.gaussian import Distance, Gaussian, Readout, Tied, coefficients, fresh, normal, scaled
from mezzotint.processes.gaussian_schedules import TABLES, Respaced, Table, cosine_from, kept
from mezzotint.rng import Rng
from mezzotint.schedules import Cosine, Linear

STEPS = 100
SCHEDULES = [Linear(), Cosine(), *(Table.of(make(STEPS)) for make in TABLES.values())]
NAMES = ["linear survival", "cosine survival", *TABLES]
PAIRS = [(1.0, 0.5), (0.5, 0.49), (0.33, 0.02), (0.01, 0.0)]


def process(schedule, **more):
    return Gaussian(fresh(5, 3).double(), schedule, **more)


def at(time):
    return torch.tensor([[time]], dtype=torch.float64)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=NAMES)
@pytest.mark.parametrize(("t", "s"), PAIRS)
def test_posterior_marginalises_to_the_forward_process(schedule, t, s):
    a_t, a_s = process(schedule).alpha(at(t)), process(schedule).alpha(at(s))
    clean, noisy, variance = coefficients(a_t, a_s)
    torch.testing.assert_close(clean + noisy * a_t.sqrt(), a_s.sqrt())
    torch.testing.assert_close(noisy**2 * (1 - a_t) + variance, 1 - a_s)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=NAMES)
@pytest.mark.parametrize("eta", [0.0, 0.3, 1.0])
def test_implicit_steps_keep_the_marginals(schedule, eta):
    gauss, z_0 = process(schedule), torch.tensor([[[0.7, -1.2, 0.1]]], dtype=torch.float64)
    a_t, a_s = gauss.alpha(at(0.8)), gauss.alpha(at(0.3))
    centre = a_t.sqrt()[..., None] * z_0
    mean, std = gauss.implicit(z_0, centre, a_t, a_s, eta)
    torch.testing.assert_close(mean, a_s.sqrt()[..., None] * z_0)
    slope = gauss.implicit(z_0, centre + 1, a_t, a_s, eta)[0] - mean
    torch.testing.assert_close(slope**2 * (1 - a_t) + std**2, (1 - a_s)[..., None].expand_as(z_0))


def test_a_full_implicit_step_is_the_posterior():
    gauss, z = process(Cosine()), normal(Rng(0), (2, 4, 3), torch.zeros((), dtype=torch.float64))
    pair = gauss.alpha(at(0.7)), gauss.alpha(at(0.6))
    for mine, other in zip(gauss.implicit(z, 2 * z + 1, *pair, 1.0), gauss.posterior(z, 2 * z + 1, *pair), strict=True):
        torch.testing.assert_close(mine, other)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=NAMES)
def test_the_last_step_arrives_at_the_estimate(schedule):
    gauss, z = process(schedule), torch.ones(1, 2, 3, dtype=torch.float64)
    pair = gauss.alpha(at(0.01)), torch.ones(1, 1, dtype=torch.float64)
    for mean, std in (gauss.posterior(z, -3 * z, *pair), gauss.implicit(z, -3 * z, *pair, 1.0)):
        torch.testing.assert_close(mean, z)
        assert float(std) == 0


def test_noise_has_the_moments_of_the_process():
    gauss = process(Cosine(), spread=0.3)
    tokens = torch.full((4000, 8), 2)
    z = gauss.corrupt(tokens, torch.full((4000, 1), 0.6), Rng(1)).detach().flatten(0, 1)
    a = float(gauss.alpha(at(0.6)))
    torch.testing.assert_close(z.mean(0), a**0.5 * gauss.table[2].detach(), rtol=0, atol=0.02)
    torch.testing.assert_close(z.var(0), torch.full((3,), 1 - a + a * 0.09, dtype=torch.float64), rtol=0.03, atol=0)


@pytest.mark.parametrize("name", TABLES)
def test_tables_are_schedules(name):
    table = Table.of(TABLES[name](STEPS))
    t = torch.arange(STEPS + 1, dtype=torch.float64) / STEPS
    assert bool((table.alpha(t).diff() < 0).all())
    torch.testing.assert_close(table.alpha(t), table.levels)
    torch.testing.assert_close(table.alpha(t.float()), table.levels.float())
    torch.testing.assert_close(table.time(table.alpha(t)), t)
    middle = torch.tensor([0.1234, 0.777], dtype=torch.float64)
    torch.testing.assert_close(table.time(table.alpha(middle)), middle)
    slope = (table.alpha(middle + 1e-7) - table.alpha(middle)) / 1e-7
    torch.testing.assert_close(table.dalpha(middle), slope, rtol=1e-5, atol=1e-7)


def test_the_known_values_of_the_square_root_table():
    table = Table.of(TABLES["sqrt"](2000))
    assert float(table.betas()[0]) == pytest.approx(0.01464131, abs=5e-9)
    known = {1: 0.98535869, 1000: 0.29578031, 1999: 2.0204e-4, 2000: 2.0204e-7}
    for step, value in known.items():
        assert float(table.levels[step]) == pytest.approx(value, rel=3e-5)


def test_a_cosine_table_begins_where_it_is_told():
    betas = cosine_from(1000, 2e-3)
    assert float(betas[0]) == 2e-3
    torch.testing.assert_close(betas[1:], TABLES["cosine"](1000)[1:])


def test_respacing_keeps_both_ends_and_walks_to_zero():
    steps = kept(2000, 200)
    assert steps[0] == 0
    assert steps[-1] == 1999
    plan = Respaced(2000)
    times = [plan(k, 200) for k in range(201)]
    assert times[0] == 1
    assert times[-1] == 0
    assert times == sorted(times, reverse=True)
    short = plan.schedule(Table.of(TABLES["sqrt"](2000)), 200)
    assert short.steps == 200
    with pytest.raises(ConfigError, match="cannot keep 11 of 10 steps"):
        kept(10, 11)


def test_two_embeddings_round_by_sign():
    gauss = Gaussian(torch.tensor([[-0.8], [0.8]]), Cosine())
    z = torch.tensor([[[-2.0], [-0.1], [0.3]]])
    logits = gauss.logits(z)
    torch.testing.assert_close(logits[..., 1] - logits[..., 0], 1.6 * z[..., 0])
    assert gauss.nearest(z).flatten().tolist() == pytest.approx([-0.8, -0.8, 0.8])
    torch.testing.assert_close(Distance()(z, gauss.table).diff(dim=-1)[..., 0], 3.2 * z[..., 0])


def test_nearest_is_the_brute_force_nearest():
    gauss = process(Cosine())
    z = normal(Rng(3), (4, 6, 3), torch.zeros((), dtype=torch.float64))
    gaps = (z[:, :, None] - gauss.table).norm(dim=-1)
    torch.testing.assert_close(gauss.nearest(z), gauss.table[gaps.argmin(-1)])


def test_fixed_columns_hold_clean_embeddings():
    gauss, tokens = process(Cosine()), torch.tensor([[1, 4]])
    held = gauss.hold(torch.zeros(1, 2, 3, dtype=torch.float64), tokens, torch.tensor([[True, False]]))
    torch.testing.assert_close(held[0, 0], gauss.table[1])
    assert not held[0, 1].any()


@pytest.mark.parametrize(("trainable", "head"), [(True, None), (False, "own")])
def test_what_learns(trainable, head):
    table = fresh(5, 3)
    gauss = Gaussian(table, Cosine(), trainable=trainable, head=Readout(table) if head else None)
    learning = {name for name, x in gauss.named_parameters() if x.requires_grad}
    assert learning == ({"table", "head.bias"} if trainable else {"head.weight"})
    if not head:
        assert isinstance(gauss.head, Tied)


def test_rows_are_scaled_to_one_per_feature():
    torch.testing.assert_close(scaled(fresh(7, 9)).norm(dim=-1), torch.full((7,), 3.0))


def test_cut_tails_stay_inside():
    like = torch.zeros((), dtype=torch.float64)
    z = normal(Rng(0), (200, 50), like, 1.0)
    assert float(z.abs().max()) <= 1
    assert float(z.var()) == pytest.approx(0.2911, abs=0.01)
    assert float(normal(Rng(0), (200, 50), like).abs().max()) > 3


def test_a_table_must_be_a_matrix_and_betas_probabilities():
    with pytest.raises(VocabularyError, match="two axes"):
        Gaussian(torch.zeros(3), Cosine())
    with pytest.raises(ConfigError, match="keep them in"):
        Table.of(torch.tensor([0.1, 1.0]))
