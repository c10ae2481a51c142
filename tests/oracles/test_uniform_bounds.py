"""Bounds of uniform and hybrid noise on sources whose probabilities are known, by enumeration of noisy texts.

With these parameterisations the best network answers the leave-one-out posterior, which does not look at the column's
own token; then the bound is -log p of every text.  The ordinary posterior is not the best one.
"""

import itertools
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sources import PAIR, TOKEN

from mezzotint.batch import Batch
from mezzotint.errors import ConfigError
from mezzotint.families import duo, gidd, udlm
from mezzotint.families.mdlm import mdlm
from mezzotint.objectives.duo import Curriculum, at_levels
from mezzotint.processes.absorbing import Absorbing
from mezzotint.processes.gaussian_argmax import GaussianArgmax, largest, normal, on_top, survival
from mezzotint.processes.mixture import Mixture
from mezzotint.processes.uniform import Uniform
from mezzotint.rng import Rng
from mezzotint.schedules import Cosine, Linear, Polynomial

REAL = TOKEN.real
PRIOR = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)


def nodes(least, count=600):
    """Times and weights Float64[count] of an integral over [least, 1 - least], dense at both ends."""
    edge = math.log((1 - least) / least)
    u, w = (torch.from_numpy(x) for x in np.polynomial.legendre.leggauss(count))
    t = torch.sigmoid(u * edge)
    return t, w * edge * t * (1 - t)


def integral(source, process, token_loss, answer, least=1e-9, count=600):
    """Nats of every text of the source: over all times and all noisy texts, for raw outputs answer(x_t, t)."""
    noisy = torch.tensor(list(itertools.product(range(process.vocab), repeat=source.length)))
    (t, weight), shape = nodes(least, count), (len(source.p), len(noisy), count)
    x_0 = source.sequences[:, None, None].expand(*shape, -1).flatten(0, 2)
    x_t = noisy[None, :, None].expand(*shape, -1).flatten(0, 2)
    t, weight = (x.expand(shape).flatten() for x in (t, weight))
    q = process.marginal(F.one_hot(x_0, process.vocab).double(), t[:, None])
    chance = q.gather(-1, x_t[..., None])[..., 0].prod(-1)
    seen = chance > 0
    nats = torch.zeros_like(weight)
    x_0, x_t, times = x_0[seen], x_t[seen], t[seen, None]
    nats[seen] = (chance * weight)[seen] * token_loss(answer(x_t, times), x_0, x_t, times).sum(-1)
    return nats.view(len(source.p), -1).sum(-1)


def exact(source, process, own=False):
    """Raw outputs of a network that knows the source and the noise; `own`: it looks at the column's own token."""

    def answer(x_t, t):
        a, b = process.alpha(t)[..., None], process.noise(t)
        likelihood = b.expand(*x_t.shape, -1).gather(-1, x_t[..., None]) + a * F.one_hot(x_t, process.vocab)
        log = source.given(likelihood[..., : source.real], own).log()
        return F.pad(log, (0, process.vocab - source.real), value=-1e9)

    return answer


LOSSES = {
    "udlm": lambda process: udlm.continuous(process),
    "duo": lambda process: at_levels(duo.nelbo(process), process.schedule),
}


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
@pytest.mark.parametrize("schedule", [Linear(eps=0), Cosine(eps=0)], ids=lambda s: s.kind)
def test_the_leave_one_out_posterior_is_exact(loss, schedule):
    process = Uniform(REAL, schedule)
    # nearer to the clean end 1 - cos has no digits left
    found = integral(TOKEN, process, loss(process), exact(TOKEN, process), 1e-6)
    torch.testing.assert_close(found, -TOKEN.p.log(), rtol=0, atol=2e-5)


def test_two_tokens_are_exact_too():
    process = Uniform(REAL, Linear(eps=0))
    found = integral(PAIR, process, udlm.continuous(process), exact(PAIR, process), count=200)
    torch.testing.assert_close(found, -PAIR.p.log(), rtol=0, atol=1e-6)


def test_a_mask_that_is_never_drawn_changes_nothing():
    process = Uniform(REAL + 1, Linear(eps=0), never=REAL)
    for loss in LOSSES.values():
        found = integral(TOKEN, process, loss(process), exact(TOKEN, process), count=200)
        torch.testing.assert_close(found, -TOKEN.p.log(), rtol=0, atol=1e-6)


def test_the_ordinary_posterior_is_not_best():
    process = Uniform(REAL, Linear(eps=0))
    found = integral(TOKEN, process, udlm.continuous(process), exact(TOKEN, process, own=True))
    torch.testing.assert_close(
        found, torch.tensor([1.33681188, 1.59689091, 1.78212539], dtype=torch.float64), rtol=0, atol=1e-6
    )
    both = integral(PAIR, process, udlm.continuous(process), exact(PAIR, process, own=True), count=200)
    assert float((PAIR.p * both).sum()) == pytest.approx(2.8675794, abs=1e-6)


def test_knowing_nothing_costs_log_n():
    process = Uniform(REAL, Linear(eps=0))
    found = integral(TOKEN, process, udlm.continuous(process), lambda x_t, t: torch.zeros(*x_t.shape, REAL).double())
    torch.testing.assert_close(found, torch.full((REAL,), math.log(REAL), dtype=torch.float64), rtol=0, atol=1e-7)


@pytest.mark.parametrize("steps", [1, 4, 64])
def test_a_chain_of_steps_is_exact_on_one_token(steps):
    process = Uniform(REAL, Linear(eps=0))
    loss, x_0, total = udlm.finite(process, steps), TOKEN.sequences, torch.zeros(REAL, dtype=torch.float64)
    raw = PRIOR.log().expand(REAL, 1, REAL)
    for i in range(1, steps + 1):
        t = torch.full((REAL, 1), i / steps, dtype=torch.float64)
        q = process.marginal(F.one_hot(x_0, REAL).double(), t)
        for z in range(REAL):
            x_t = torch.full_like(x_0, z)
            total += q[:, 0, z] * loss(raw, x_0, x_t, t).sum(-1) / steps
    torch.testing.assert_close(total, -TOKEN.p.log(), rtol=0, atol=1e-9)


def simplex(count, ids, seed=0):
    p = torch.rand(count, ids, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return (p / p.sum(-1, keepdim=True)).log()[None]


@pytest.mark.parametrize("never", [None, 6])
def test_duo_is_udlm_on_random_predictions(never):
    process = Uniform(7 + (never is not None), Linear(eps=0), never)
    raw = simplex(200, process.vocab)
    x = torch.arange(200)[None] % (never or 7)
    for x_t in (x, (x + 1) % (never or 7)):
        for time in (0.1, 0.5, 0.9):
            t = torch.full((1, 1), time, dtype=torch.float64)
            first, second = (loss(process)(raw, x, x_t, t) for loss in LOSSES.values())
            torch.testing.assert_close(first, second, rtol=0, atol=1e-11)
            assert (first >= -1e-12).all()


@pytest.mark.parametrize("schedule", [Cosine(), Polynomial()], ids=lambda s: s.kind)
def test_duo_stays_finite_at_the_clean_end_in_half_the_digits(schedule):
    """Where a schedule starts flat, a float32 cannot tell survival from one."""
    family = duo.Duo(schedule=schedule).build(4, 3)
    t = torch.logspace(-7, 0, 200)[:, None]
    x_0 = torch.zeros(200, 3, dtype=torch.long)
    x_t = torch.tensor([[0, 0, 1]]).expand(200, 3)
    raw = torch.randn(200, 3, 4, generator=torch.Generator().manual_seed(0), requires_grad=True)
    nats = family.objective.token_loss(raw, x_0, x_t, t)
    (slope,) = torch.autograd.grad(nats[:, :2].sum(), raw)
    assert bool(nats.isfinite().all())
    assert bool(slope.isfinite().all())
    exact = family.objective.token_loss(raw.double(), x_0, x_t, t.double())
    torch.testing.assert_close(nats[100:, :2].double(), exact[100:, :2], rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize(("z", "wanted"), [(0, 0.08329718181669366), (1, 0.5714819201842319)])
def test_known_values_of_the_integrand(z, wanted):
    raw = torch.tensor([[[0.7, 0.2, 0.1]]], dtype=torch.float64).log()
    x_0, x_t, t = torch.tensor([[0]]), torch.tensor([[z]]), torch.full((1, 1), 0.5, dtype=torch.float64)
    process = Uniform(3, Linear(eps=0))
    for loss in LOSSES.values():
        assert float(loss(process)(raw, x_0, x_t, t)) == pytest.approx(wanted, rel=1e-12)


@pytest.mark.parametrize(
    ("share", "least", "wanted"),
    [
        (0.1, 1e-4, 0.68273297),
        (0.1, 1e-7, 0.69265766),
        (0.2, 1e-4, 0.67254803),
        (0.2, 1e-11, 0.69313217),
        (0.5, 1e-4, 0.63003937),
        (0.5, 1e-7, 0.68967005),
    ],
)
def test_the_bound_of_hybrid_noise_closes_with_its_range_of_times(share, least, wanted):
    process = Mixture(REAL + 1, REAL, share)
    found = integral(TOKEN, process, gidd.loss(process, process.weight), exact(TOKEN, process), least)
    assert float(found[0]) == pytest.approx(wanted, abs=2e-7)


def test_hybrid_noise_without_random_tokens_is_masked_diffusion():
    process, masked = Mixture(4, 3, 0.0), mdlm(Absorbing(4, 3, Linear(eps=0)))
    raw, x = simplex(60, 4), torch.arange(60)[None] % 3
    for time in (0.1, 0.5, 0.9):
        t = torch.full((1, 1), time, dtype=torch.float64)
        for x_t in (x, torch.full_like(x, 3)):
            ours = gidd.loss(process, process.weight)(raw, x, x_t, t)
            torch.testing.assert_close(ours, masked.objective.token_loss(raw, x, x_t, t), rtol=0, atol=2e-5)


def test_hybrid_loss_is_zero_for_the_right_answer():
    process, x = Mixture(4, 3, 0.2), torch.arange(3)[None]
    raw = torch.full((1, 3, 4), -1e9, dtype=torch.float64).scatter(-1, x[..., None], 0.0)
    for x_t in (x, (x + 1) % 3, torch.full_like(x, 3)):
        loss = gidd.loss(process, process.weight)(raw, x, x_t, torch.full((1, 1), 0.4, dtype=torch.float64))
        torch.testing.assert_close(loss, torch.zeros_like(loss), rtol=0, atol=1e-12)


LEVELS = {
    30522: [(-4, 0.99906304), (-3.5, 0.94170575), (-2.5, 0.27372983), (-1, 0.00849033)],
    50257: [(-4, 0.99869414), (-3, 0.59625285), (-1.85, 0.04931764)],
}


@pytest.mark.parametrize(("ids", "rows"), LEVELS.items())
def test_known_values_of_the_operator(ids, rows):
    gamma, wanted = (torch.tensor(column, dtype=torch.float64) for column in zip(*rows, strict=True))
    torch.testing.assert_close(survival(on_top(gamma, ids), ids), wanted, rtol=0, atol=1e-8)


def test_the_operator_of_two_ids_is_a_normal_integral_and_its_ends_are_clean_and_noise():
    a = torch.tensor([0.1, 0.3, 0.5, 0.9], dtype=torch.float64)
    gamma = -torch.logit(a**2)
    closed = 2 * torch.special.ndtr(a / (2 * (1 - a**2)).sqrt()) - 1
    torch.testing.assert_close(survival(on_top(gamma, 2), 2), closed, rtol=0, atol=1e-11)
    levels = survival(on_top(torch.linspace(-8, 30, 60, dtype=torch.float64), 27), 27)
    assert (levels.diff() <= 1e-12).all()
    assert levels[0] == pytest.approx(1, abs=1e-9)
    assert levels[-1] == pytest.approx(0, abs=1e-5)


def test_the_argmax_of_gaussian_noise_has_the_marginals_of_uniform_noise():
    twin = GaussianArgmax(5, -2.0, 2.0)
    noise = torch.special.ndtri(Rng(0).uniform((4, 20_000, 5))).float()
    x_0, t = torch.full((4, 20_000), 3), torch.tensor([[0.1], [0.4], [0.7], [1.0]])
    kept = (twin.blur(x_0, t, noise).argmax(-1) == 3).double().mean(-1, keepdim=True)
    a = twin.alpha(t)
    torch.testing.assert_close(kept, a + (1 - a) / 5, rtol=0, atol=0.012)


def test_a_cold_curriculum_is_the_discrete_loss():
    process, schedule = Uniform(5, Linear(), never=4), Linear()
    twin = GaussianArgmax(process.ids)
    x_0, t = torch.randint(0, 4, (2, 6), generator=torch.Generator().manual_seed(1)), torch.tensor([[0.2], [0.8]])
    noise = torch.special.ndtri(Rng(1).uniform((2, 6, 5))).float().index_fill(-1, torch.tensor(4), -torch.inf)
    table = torch.randn(5, 5, generator=torch.Generator().manual_seed(2))

    def network(inputs, t):
        return inputs.x @ table if inputs.x.is_floating_point() else table[inputs.x]

    lesson = Curriculum(twin, schedule, duo.nelbo(process), network, 1, 1e-6, never=4)
    target = torch.ones_like(x_0, dtype=torch.bool)
    found = lesson.nats(network, x_0, t, noise, target)
    x_t = twin.blur(x_0, t, noise).argmax(-1)
    assert (x_t != 4).all()
    wanted = duo.nelbo(process)(table[x_t], x_0, x_t, twin.alpha(t), twin.dalpha(t))
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-6)


def test_the_largest_noises_drawn_alone_are_those_of_all():
    twin, never, rows = GaussianArgmax(6, -2.0, 2.0), 2, 40_000
    x_0, t = torch.full((3, rows), 4), torch.tensor([[0.1], [0.5], [0.9]])
    found = largest(twin, x_0, t, 3, Rng(3), never)
    whole = twin.blur(x_0, t, normal(x_0, 7, Rng(4), never))
    # the clean id wins as often, and the others' heights have the same means and spreads
    top = found.highest(x_0)
    torch.testing.assert_close(
        (top == 4).double().mean(-1), (whole.argmax(-1) == 4).double().mean(-1), rtol=0, atol=0.012
    )
    others = whole.index_fill(-1, torch.tensor([4]), -torch.inf).sort(-1, descending=True).values[..., :3].double()
    for statistic in (torch.mean, torch.std):
        torch.testing.assert_close(statistic(found.others, 1), statistic(others, 1), rtol=0, atol=0.02)
    assert (found.others.diff(dim=-1) <= 0).all()
    # every other id is as likely to be the highest of them, the second and the third; none comes twice
    seen = torch.stack([(found.ids == v).double().mean((0, 1)) for v in range(7)])
    wanted = torch.tensor([[0.2], [0.2], [0], [0.2], [0], [0.2], [0.2]], dtype=torch.float64).expand(7, 3)
    torch.testing.assert_close(seen, wanted, rtol=0, atol=6e-3)
    assert (found.ids.sort(-1).values.diff(dim=-1) > 0).all()


def test_the_softmax_of_the_largest_is_that_of_all():
    twin, x_0 = GaussianArgmax(6, -2.0, 2.0), torch.full((2, 20_000), 4)
    t = torch.tensor([[0.2], [0.6]])
    everything = largest(twin, x_0, t, 5, Rng(5))
    clean, others = everything.softmax(0.7)
    torch.testing.assert_close(clean + others.sum(-1), torch.ones_like(clean))
    ratio = ((everything.others[..., 0] - everything.clean) / 0.7).exp()
    torch.testing.assert_close(others[..., 0] / clean, ratio)
    # the mean of what is left out stands for it: what the clean id weighs is nearly the same on average
    few = largest(twin, x_0, t, 2, Rng(6)).softmax(0.7)[0]
    torch.testing.assert_close(few.mean(-1), clean.mean(-1), rtol=0, atol=0.01)


def test_a_cold_curriculum_of_the_largest_is_the_discrete_loss():
    process, schedule = Uniform(5, Linear(), never=4), Linear()
    table = torch.randn(5, 5, generator=torch.Generator().manual_seed(2))
    x_0 = torch.randint(0, 4, (256, 400), generator=torch.Generator().manual_seed(3))
    batch = Batch(x_0, torch.ones_like(x_0, dtype=torch.bool))

    def network(inputs, t):
        return inputs.x @ table if inputs.x.is_floating_point() else table[inputs.x]

    def lesson(few):
        twin = GaussianArgmax(process.ids)
        return Curriculum(twin, schedule, duo.nelbo(process), network, 1, 1e-6, 4, few)(network, batch, Rng(0))

    assert float(lesson(2).total) == pytest.approx(float(lesson(None).total), rel=0.06)
    with pytest.raises(ConfigError, match="the 4 largest of 3 other ids"):
        lesson(4)


def test_plain_cross_entropy_teaches_the_leave_one_out_posterior():
    # the mean over p(x_0 | x_t) has no slope there, and is the entropy of p(x_0 | x_t)
    family = udlm.UDLM(weights="even").build(PAIR.real + 1, PAIR.mask_id)
    process, x_t, t = family.process, PAIR.sequences, torch.full((len(PAIR.p), 1), 0.6, dtype=torch.float64)
    raw = exact(PAIR, process)(x_t, t).requires_grad_()
    known = exact(PAIR, process, own=True)(x_t, t)[..., : PAIR.real].exp()
    nats = [family.objective.token_loss(raw, torch.full_like(x_t, v), x_t, t) for v in range(PAIR.real)]
    mean = (known * torch.stack(nats, -1)).sum(-1)
    torch.testing.assert_close(mean, -torch.xlogy(known, known).sum(-1))
    (slope,) = torch.autograd.grad(mean.sum(), raw)
    torch.testing.assert_close(slope, torch.zeros_like(slope), rtol=0, atol=1e-12)
    assert family.bound.token_loss(raw, x_t, x_t, t).shape == x_t.shape


def test_an_answer_keeps_its_meaning_with_and_without_its_own_token():
    process = Uniform(4, Linear(), 3)
    raw, x_t, t = torch.randn(5, 6, 4, dtype=torch.float64), torch.arange(30).view(5, 6) % 3, torch.rand(5, 1).double()
    torch.testing.assert_close(process.alone(process.seen(raw, x_t, t), x_t, t), raw)
