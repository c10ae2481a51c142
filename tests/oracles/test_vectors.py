"""Gaussian families against models whose answers are exact: means by enumeration, bounds by quadrature."""

import itertools

import numpy as np
import pytest
import torch
from exact_vectors import Exact, written
from sources import PAIR, TOKEN
from strings import chi_square
from training import trained

from mezzotint.batch import Batch
from mezzotint.decode.samplers.ddpm import GaussianReverse
from mezzotint.decode.samplers.time_grid import LatentGrid
from mezzotint.denoisers.networks.embedding_network import EmbeddingNetworkConfig
from mezzotint.denoisers.networks.small_transformer import TransformerConfig
from mezzotint.families.diffusion_lm import diffusion_lm
from mezzotint.families.sed import SED, sed
from mezzotint.layouts import Full
from mezzotint.objectives.embedding_denoising import EmbeddingDenoising, Noised
from mezzotint.objectives.gaussian_bound import GaussianBound
from mezzotint.objectives.times import DiscreteTimes, whole
from mezzotint.processes.gaussian import Distance, Gaussian, fresh, scaled
from mezzotint.processes.gaussian_schedules import Table, cosine
from mezzotint.rng import Rng


def process_of(source, spread=0.1, width=3, steps=500):
    table = scaled(fresh(source.real, width, seed=2).double())
    return Gaussian(table, Table.of(cosine(steps)), spread=spread, head=Distance(1 / (2 * spread**2)))


@pytest.mark.parametrize("eta", [None, 1.0, 0.0], ids=["posterior", "stochastic", "implicit"])
def test_a_sampler_with_exact_means_draws_the_source(eta):
    process = process_of(PAIR)
    net = Exact(process, PAIR.sequences, PAIR.p)
    rule = LatentGrid(GaussianReverse(process, eta), process.round)
    tokens = written(net, process, rule, [[None] * PAIR.length] * 4000, 250)
    counts = torch.bincount(PAIR.index(tokens), minlength=len(PAIR.p)).double()
    assert chi_square(counts, PAIR.p) < 4


def test_given_columns_are_conditions():
    process = process_of(PAIR)
    net = Exact(process, PAIR.sequences, PAIR.p)
    rule = LatentGrid(GaussianReverse(process), process.round)
    tokens = written(net, process, rule, [[1, None]] * 4000, 250)
    assert (tokens[:, 0] == 1).all()
    counts = torch.bincount(tokens[:, 1], minlength=PAIR.real).double()
    assert chi_square(counts, torch.tensor(PAIR.step[1], dtype=torch.float64)) < 4


BETAS = torch.tensor([0.2, 0.7], dtype=torch.float64)
GAINS = torch.tensor([[0.0, 0.0], [0.9, 0.1], [0.5, -0.2]], dtype=torch.float64)
"""Of a linear network: x_0 = gain z + shift at each time."""


def tiny():
    schedule = Table.of(BETAS)
    table = torch.tensor([[-0.7], [0.9]], dtype=torch.float64)
    return Gaussian(table, schedule, spread=float((1 - schedule.levels[1]).sqrt()))


def answer(z, step):
    return GAINS[step, 0] * z + GAINS[step, 1]


def points(count=16):
    """Nodes and weights of expectations over two independent standard normal numbers."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(count)
    weights = weights / weights.sum()
    pairs = torch.tensor(list(itertools.product(nodes, repeat=2)), dtype=torch.float64)
    return pairs, torch.tensor([a * b for a, b in itertools.product(weights, repeat=2)], dtype=torch.float64)


def log_normal(x, mean, variance):
    variance = torch.as_tensor(variance, dtype=torch.float64)
    return -((x - mean) ** 2 / variance + (2 * torch.pi * variance).log()) / 2


@torch.no_grad()
def bound_by_parts(token):
    """The card's bound, its expectation over both times and all noise; without columns that know their own token."""
    process, (pairs, weights) = tiny(), points()
    tokens, total = torch.full((len(pairs), 1), token), 0.0
    for step in (1, 2):
        t = torch.full((len(pairs), 1), step / 2, dtype=torch.float64)
        z_0 = process.start(tokens, pairs[:, :1, None])
        x = Noised(tokens, z_0, process.noised(z_0, t, pairs[:, 1:, None]), t)
        nats = sum(GaussianBound(process, 2, sure=1.0)(answer(x.z_t, step), x).values())
        total += float((nats[:, 0] * weights).sum()) / 2
    return total


def bound_by_chain(token, count=16):
    """E[log q(z_0, z_1, z_2 | w) - log p(z_0, z_1, z_2) - log p(w | z_0)], over the chain itself."""
    process = tiny()
    nodes, one = np.polynomial.hermite_e.hermegauss(count)
    one = torch.tensor(one / one.sum())
    e = torch.tensor(list(itertools.product(nodes, repeat=3)), dtype=torch.float64)
    weights = torch.einsum("a,b,c->abc", one, one, one).flatten()
    centre = process.table[token, 0].detach()
    keep = (1 - BETAS).sqrt()
    z_0 = centre + process.spread * e[:, 0]
    z_1 = keep[0] * z_0 + BETAS[0].sqrt() * e[:, 1]
    z_2 = keep[1] * z_1 + BETAS[1].sqrt() * e[:, 2]
    q = log_normal(z_0, centre, process.spread**2)
    q = q + log_normal(z_1, keep[0] * z_0, BETAS[0]) + log_normal(z_2, keep[1] * z_1, BETAS[1])
    p = log_normal(z_2, 0, 1.0) + log_normal(z_1, *back(process, z_2, 2)) + log_normal(z_0, *back(process, z_1, 1))
    said = process.round(z_0[:, None, None])[:, 0, token].detach()
    return float(((q - p - said) * weights).sum())


def back(process, z, step):
    """Mean and variance of q(z_{s} | z_t, E w) with the network's answer for E w, by Bayes' rule for two normals."""
    keep, beta = (1 - BETAS[step - 1]).sqrt(), BETAS[step - 1]
    a = process.schedule.levels[step - 1]
    prior = 1 - a + a * process.spread**2
    precision = 1 / prior + keep**2 / beta
    return (a.sqrt() * answer(z, step) / prior + keep * z / beta) / precision, 1 / precision


def minus_log_p(token):
    """-log of the probability that the model writes the token: z_0 is normal, since the network is linear."""
    process = tiny()
    mean, variance = torch.zeros((), dtype=torch.float64), torch.ones((), dtype=torch.float64)
    for step in (2, 1):
        (shift, added), (end, _) = (back(process, torch.tensor(z, dtype=torch.float64), step) for z in (0.0, 1.0))
        mean, variance = shift + (end - shift) * mean, (end - shift) ** 2 * variance + added
    nodes, weights = np.polynomial.hermite_e.hermegauss(40)
    z = mean + variance.sqrt() * torch.tensor(nodes)[:, None, None]
    said = process.round(z)[:, 0, token].exp().detach()
    return -float((said * torch.tensor(weights / weights.sum())).sum().log())


@pytest.mark.parametrize("token", [0, 1])
def test_the_bound_is_that_of_the_chain_and_lies_above_minus_log_p(token):
    assert bound_by_parts(token) == pytest.approx(bound_by_chain(token), abs=1e-9)
    assert bound_by_parts(token) > minus_log_p(token)


@torch.no_grad()
def test_a_column_that_shows_its_token_estimates_itself():
    process = Gaussian(2 * torch.eye(3).double(), Table.of(cosine(500)), spread=0.1)
    tokens, t = torch.arange(3)[:, None].expand(3, 64), torch.full((3, 1), 2 / 500, dtype=torch.float64)
    z_0, z_t = process.both(tokens, t, Rng(0))
    wrong = torch.zeros_like(z_0)
    x = Noised(tokens, z_0, z_t, t)
    steps = {sure: GaussianBound(process, 500, sure)(wrong, x)["steps"] for sure in (0.99, 1.0)}
    a, b = (float(process.alpha(torch.tensor(k / 500))) for k in (1, 2))
    gain = (a / (1 - a + 0.01 * a) - b / (1 - b + 0.01 * b)) / 2
    torch.testing.assert_close(steps[1.0], torch.full_like(steps[1.0], 500 * 4 * gain))
    assert steps[0.99].max() < 1e-6
    hidden = torch.full((3, 1), 450 / 500, dtype=torch.float64)
    z_t = process.noised(
        z_0, hidden, torch.randn(z_0.shape, dtype=z_0.dtype, generator=torch.Generator().manual_seed(0))
    )
    x = Noised(tokens, z_0, z_t, hidden)
    assert torch.equal(*(GaussianBound(process, 500, sure)(wrong, x)["steps"] for sure in (0.99, 1.0)))


@torch.no_grad()
def test_with_exact_means_and_many_steps_the_bound_is_minus_log_p_of_every_sequence():
    """What a column's vector says of its token is worth half of mmse dSNR; added up, the whole of it is -log p."""
    steps, rows = 1000, 20_000
    process = process_of(PAIR, steps=steps)
    order = torch.randperm(9 * rows, generator=torch.Generator().manual_seed(0))  # times must not go by sequence
    tokens = PAIR.sequences.repeat_interleave(rows, 0)[order]
    objective = EmbeddingDenoising(process, GaussianBound(process, steps), DiscreteTimes(whole, steps))
    net = Exact(process, PAIR.sequences, PAIR.p)
    nats = objective(net, Batch(tokens, torch.ones_like(tokens, dtype=torch.bool)), Rng(5)).per_token.sum(-1)
    of = [nats[PAIR.index(tokens) == index] for index in range(9)]
    gap = torch.stack([each.mean() for each in of]) + PAIR.p.log()
    error = torch.stack([each.std() for each in of]) / rows**0.5
    assert (gap.abs() < 4 * error).all()
    assert abs(float((PAIR.p * gap).sum())) < 0.01 + 4 * float((PAIR.p * error).norm())


def test_probabilities_of_the_tiny_model_sum_to_one():
    assert sum(np.exp(-minus_log_p(token)) for token in (0, 1)) == pytest.approx(1, abs=1e-9)


def test_rounding_is_the_exact_posterior_of_tokens():
    process = process_of(TOKEN, spread=0.4)
    z = 2 * torch.randn(5, 1, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    density = torch.distributions.Normal(process.table.detach(), 0.4).log_prob(z[:, :, None]).sum(-1)
    torch.testing.assert_close(process.round(z), density.log_softmax(-1))


def test_equal_norms_make_the_posterior_a_softmax_of_products():
    process = SED(width=4, steps=50, first=0.01, spread=0.3).on(torch.eye(3, 4).double())
    z = torch.randn(6, 1, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    t = torch.full((6, 1), 0.4, dtype=torch.float64)
    a, table = process.alpha(t)[..., None], process.table.detach()
    lost = 1 - a + a * process.spread**2
    p = (a.sqrt() * z @ table.T / lost + TOKEN.p.log()).softmax(-1)
    means = p @ table
    want = means + a.sqrt() * process.spread**2 / lost * (z - a.sqrt() * means)
    exact = Exact(process, TOKEN.sequences, TOKEN.p)
    torch.testing.assert_close(exact(Full().arrange(z, z), t), want)


def batch(step, rows=256):
    tokens = TOKEN.sample(rows, step)
    return Batch(tokens, torch.ones_like(tokens, dtype=torch.bool))


def test_a_trained_network_comes_near_the_least_error_and_not_below_it():
    process = SED(width=4, steps=50, first=0.01, spread=0.1).on(fresh(TOKEN.real, 4, seed=1))
    torch.manual_seed(0)
    shape = EmbeddingNetworkConfig(trunk=TransformerConfig(width=32, layers=1, heads=2, timed=True))
    objective = EmbeddingDenoising(
        process, lambda raw, x: {"mse": (x.z_0 - raw).square().mean(-1)}, DiscreteTimes(whole, 50)
    )
    net = trained(shape.build(process), objective, batch, steps=300, lr=5e-3)
    with torch.no_grad():
        held, rng = batch(10_000, rows=8192), Rng(7)
        found = float(objective(net, held, rng).total)
        least = float(objective(Exact(process, TOKEN.sequences, TOKEN.p), held, rng).total)
    assert least * 0.995 < found < least * 1.1


def learning():
    schedule = Table.of(cosine(40))
    spread = float((1 - schedule.levels[1]).sqrt())
    return diffusion_lm(Gaussian(fresh(TOKEN.real, 4), schedule, spread=spread, trainable=True), 40)


def fixed():
    return sed(SED(width=4, steps=40, first=0.02, spread=0.1).on(fresh(TOKEN.real, 4, seed=1)), 40)


@pytest.mark.parametrize("make", [learning, fixed], ids=["diffusion-lm", "sed"])
def test_a_trained_bound_lies_above_the_entropy(make):
    torch.manual_seed(0)
    family = make()
    process = family.process
    net = EmbeddingNetworkConfig(trunk=TransformerConfig(width=32, layers=1, heads=2, timed=True)).build(process)
    before = process.table.detach().clone()
    net = trained(net, family.objective, batch, steps=300, lr=5e-3)
    assert ((process.table - before).abs().max() > 0.01) == process.table.requires_grad
    exact, held = Exact(process, TOKEN.sequences, TOKEN.p), batch(10_000, rows=16384)
    with torch.no_grad():
        nats, least = (family.bound(asked, held, Rng(3)).per_token.double() for asked in (net, exact))
    assert float(nats.mean()) > TOKEN.entropy - 4 * float(nats.std()) / nats.numel() ** 0.5
    assert float(least.mean()) > TOKEN.entropy - 4 * float(least.std()) / least.numel() ** 0.5
    assert float(least.mean()) < float(nats.mean())
    # a single step writes the token nearest to the mean of all; the more there are, the nearer to the source
    few, more, many = (away(family, net, steps) for steps in (1, 3, 40))
    assert few > more > many, (few, more, many)
    assert many < 0.1


def away(family, net, steps):
    """Total variation between the family's samples and the source."""
    # the step alone: sed's own rule also notes the last estimate, which this network does not read
    rule = LatentGrid(family.moments.__self__, family.process.round)
    tokens = written(net, family.process, rule, [[None]] * 4000, steps)
    return float((torch.bincount(tokens[:, 0], minlength=TOKEN.real) / 4000 - TOKEN.p).abs().sum()) / 2
