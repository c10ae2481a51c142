"""Uniform noise and its mixtures with masks agree with themselves; all in float64."""

import math

import pytest
import torch
import torch.nn.functional as F

from mezzotint.errors import ConfigError, VocabularyError
from mezzotint.processes.absorbing import Absorbing
from mezzotint.processes.mixture import HybridMixture, Mixture
from mezzotint.processes.score_noise import masking, spreading
from mezzotint.processes.uniform import Uniform
from mezzotint.rng import Rng
from mezzotint.schedules import Cosine, Linear

VOCAB, LAST = 5, 4
PROCESSES = {
    "uniform": Uniform(VOCAB, Linear(eps=0)),
    "uniform, eps": Uniform(VOCAB, Linear()),
    "uniform, cosine": Uniform(VOCAB, Cosine(eps=0)),
    "uniform without a mask": Uniform(VOCAB, Linear(eps=0), never=LAST),
    "mixture 0": Mixture(VOCAB, LAST, 0.0),
    "mixture 0.2": Mixture(VOCAB, LAST, 0.2),
    "mixture 0.5": Mixture(VOCAB, LAST, 0.5),
}
TIMES = [(0.9, 0.4), (0.5, 0.49), (0.999, 0.01)]
process = pytest.mark.parametrize("process", PROCESSES.values(), ids=PROCESSES)
pair = pytest.mark.parametrize(("t", "s"), TIMES)


def at(time):
    return torch.tensor([[time]], dtype=torch.float64)


def clean(token):
    return F.one_hot(torch.tensor([[token]]), VOCAB).double()


def matrix(process, s, t):
    """Float64[V, V]: q(x_t | x_s), rows are x_s."""
    kept, added = process.between(at(s), at(t))
    return kept[0, 0] * torch.eye(VOCAB, dtype=torch.float64) + added[0, 0]


@process
@pair
def test_rows_sum_to_one_and_nothing_is_negative(process, t, s):
    p0 = torch.rand(2, 3, VOCAB, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    p0[..., LAST] = 0
    p0 = p0 / p0.sum(-1, keepdim=True)
    x_t = torch.tensor([[0, 1, 2], [3, 3, 1]])
    rows = [process.marginal(p0, at(t)), process.back(p0, x_t, at(t), at(s)), matrix(process, s, t)]
    rows.append(process.posterior(p0, x_t, process.alpha(at(t)), process.alpha(at(s))))
    for row in rows:
        torch.testing.assert_close(row.sum(-1), torch.ones(row.shape[:-1], dtype=torch.float64))
        assert (row >= 0).all()


@process
@pair
def test_posterior_marginalises_to_the_forward_process(process, t, s):
    for token in range(VOCAB - 1):
        q_t = process.marginal(clean(token), at(t))
        steps = [process.back(clean(token), torch.tensor([[x]]), at(t), at(s)) for x in range(VOCAB)]
        back = sum(torch.where(q_t[..., x, None] > 0, q_t[..., x, None] * step, 0.0) for x, step in enumerate(steps))
        torch.testing.assert_close(back, process.marginal(clean(token), at(s)))


@process
def test_two_transitions_are_one(process):
    for r, s, t in ((0.1, 0.3, 0.8), (0.0, 0.5, 0.6), (0.2, 0.9, 0.99)):
        torch.testing.assert_close(matrix(process, r, s) @ matrix(process, s, t), matrix(process, r, t))
        begun = process.marginal(torch.eye(VOCAB, dtype=torch.float64)[None], at(s))[0]
        ended = process.marginal(torch.eye(VOCAB, dtype=torch.float64)[None], at(t))[0]
        torch.testing.assert_close(begun[: VOCAB - 1] @ matrix(process, s, t), ended[: VOCAB - 1])


@process
def test_two_posterior_steps_are_one_for_a_known_token(process):
    p0, x_t = clean(2), torch.tensor([[1]])
    middle = process.back(p0, x_t, at(0.8), at(0.5))
    steps = [process.back(p0, torch.tensor([[x]]), at(0.5), at(0.2)) for x in range(VOCAB)]
    twice = sum(torch.where(middle[..., x, None] > 0, middle[..., x, None] * step, 0.0) for x, step in enumerate(steps))
    torch.testing.assert_close(twice, process.back(p0, x_t, at(0.8), at(0.2)))


@process
def test_posterior_by_survival_is_the_one_by_time(process):
    p0, x_t = clean(1), torch.tensor([[0]])
    by_level = process.posterior(p0, x_t, process.alpha(at(0.7)), process.alpha(at(0.3)))
    torch.testing.assert_close(by_level, process.back(p0, x_t, at(0.7), at(0.3)))


@process
def test_intensity_is_the_derivative_of_the_transition(process):
    t, step = 0.37, 1e-6
    _, added = process.between(at(t - step), at(t + step))
    torch.testing.assert_close(process.intensity(at(t)), added / (2 * step), rtol=1e-5, atol=1e-8)


@process
def test_end_points(process):
    noise = process.noise(at(1.0))[0, 0]
    torch.testing.assert_close(process.marginal(clean(3), at(0.0)), clean(3), atol=2e-9, rtol=0)
    prior = torch.bincount(process.prior((1, 60_000), None, Rng(3))[0], minlength=VOCAB) / 60_000
    torch.testing.assert_close(prior.double(), noise / noise.sum(), atol=8e-3, rtol=0)


@process
def test_corruption_has_the_marginals(process):
    x_0 = torch.full((1, 100_000), 2)
    found = torch.bincount(process.corrupt(x_0, at(0.6), Rng(5))[0], minlength=VOCAB) / 100_000
    torch.testing.assert_close(found.double(), process.marginal(clean(2), at(0.6))[0, 0], atol=6e-3, rtol=0)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5])
def test_hybrid_schedule(share):
    schedule = HybridMixture(share)
    t = torch.linspace(0.01, 0.99, 50, dtype=torch.float64, requires_grad=True)
    alpha = schedule.alpha(t)
    (slope,) = torch.autograd.grad(alpha.sum(), t)
    assert (alpha.diff() < 0).all()
    torch.testing.assert_close(schedule.dalpha(t.detach()), slope)
    torch.testing.assert_close(schedule.time(alpha.detach()), t.detach())


def test_half_way_the_mixture_has_its_share_of_random_tokens():
    b = Mixture(VOCAB, LAST, 0.2).noise(at(0.5))[0, 0]
    assert float(b[:LAST].sum()) == pytest.approx(0.2)
    assert float(b[LAST]) == pytest.approx(0.4)


def test_known_posteriors():
    process = Uniform(3, Linear(eps=0))
    x = torch.tensor([[[0.7, 0.2, 0.1]]], dtype=torch.float64)
    cases = [(x, 1, (0.29375, 0.6375, 0.06875)), (clean(0)[..., :3], 1, (0.65, 0.3, 0.05))]
    cases.append((clean(0)[..., :3], 0, (0.975, 0.0125, 0.0125)))
    for p0, z, wanted in cases:
        found = process.posterior(p0, torch.tensor([[z]]), at(0.5), at(0.8))
        torch.testing.assert_close(found[0, 0], torch.tensor(wanted, dtype=torch.float64))


def test_known_numbers_of_the_mixture():
    process, t = Mixture(4, 3, 0.2), at(0.3)
    assert math.exp(process.hybrid.log_b) == pytest.approx(0.5)
    assert float(process.hybrid.bump(t)) == pytest.approx(0.229128784747792)
    assert float(process.alpha(t)) == pytest.approx(0.5695090772311826)
    wanted = [0.06213853465181776] * 3 + [0.24407531881336397]
    assert process.noise(t).flatten().tolist() == pytest.approx(wanted)
    weights = process.weight(torch.zeros(1, 4, dtype=torch.long), torch.arange(4)[None], t)
    expected = [0.23422694750176942, 2.3809523809523814, 2.3809523809523814, 4.761904761904762]
    assert weights.flatten().tolist() == pytest.approx(expected, rel=1e-9)


NOISES = {"masking": masking(VOCAB, LAST), "spreading": spreading(VOCAB), "real ids": spreading(VOCAB, LAST)}


@pytest.mark.parametrize("noise", NOISES.values(), ids=NOISES)
def test_transitions_follow_from_rates(noise):
    x, kept = torch.arange(VOCAB)[None], at(0.6)
    rates = noise.rates_out(x)[0]
    torch.testing.assert_close(noise.out(x, kept)[0], torch.linalg.matrix_exp(-math.log(0.6) * rates))
    torch.testing.assert_close(noise.into(x, kept)[0], noise.out(x, kept)[0].T)
    torch.testing.assert_close(noise.rates_into(x)[0], rates.T)
    torch.testing.assert_close(noise.out(x, kept).sum(-1), torch.ones(1, VOCAB, dtype=torch.float64))


@pytest.mark.parametrize("noise", NOISES.values(), ids=NOISES)
def test_scores_run_backwards_exactly_in_one_column(noise):
    p0 = torch.tensor([[[0.4, 0.3, 0.2, 0.1, 0.0]]], dtype=torch.float64).expand(1, VOCAB, VOCAB)
    x, a_t, a_s = torch.arange(VOCAB)[None], at(0.3), at(0.8)
    q_t, q_s = (a[..., None] * p0 + (1 - a)[..., None] * noise.limit for a in (a_t, a_s))
    reached = q_t.gather(-1, x[..., None])
    wanted = noise.into(x, a_t / a_s) * q_s / reached
    found = noise.tweedie(noise.scores(p0, x, a_t), x, a_t / a_s)
    seen = reached[..., 0] > 0
    torch.testing.assert_close(found[seen], wanted[seen])
    score = torch.rand(1, VOCAB, VOCAB, dtype=torch.float64)
    torch.testing.assert_close(noise.before(score, at(1.0)), score)


def test_scores_of_masks_are_those_of_the_absorbing_process():
    process, x_t = Absorbing(VOCAB, LAST, Linear()), torch.tensor([[LAST, 1]])
    p0 = torch.tensor([[[0.4, 0.3, 0.2, 0.1, 0.0], [0.0, 1.0, 0.0, 0.0, 0.0]]], dtype=torch.float64)
    torch.testing.assert_close(NOISES["masking"].scores(p0, x_t, at(0.4)), process.scores(p0, x_t, at(0.4)))


def test_ids_that_do_not_exist_are_refused():
    with pytest.raises(VocabularyError, match="ids 0 to 4"):
        Uniform(VOCAB, Linear(), never=VOCAB)
    with pytest.raises(VocabularyError, match="at least two"):
        Uniform(2, Linear(), never=1)
    with pytest.raises(VocabularyError, match="ids 0 to 4"):
        Mixture(VOCAB, VOCAB, 0.1)
    with pytest.raises(ConfigError, match="share of 1"):
        Mixture(VOCAB, LAST, 1.0)
