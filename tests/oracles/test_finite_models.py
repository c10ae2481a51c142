"""A network of random answers over two columns is a model whose every probability can be computed: hold bounds to it.

States are all pairs of ids.  A sampler's step is a matrix over states, and their product its distribution; so the bound
of every sequence must lie above -log p of it, and the sampler's frequencies must be those probabilities.
"""

import itertools

import pytest
import torch
from sources import PAIR
from strings import chi_square, last

from mezzotint.decode.canvas import infill
from mezzotint.decode.loop import decode
from mezzotint.decode.plan import Blocks
from mezzotint.families.base import log_p
from mezzotint.families.d3pm import D3PM
from mezzotint.families.mdlm import MDLM
from mezzotint.schedules import Linear

VOCAB, MASK, COLUMNS = PAIR.real + 1, PAIR.mask_id, PAIR.length
STATES = torch.tensor(list(itertools.product(range(VOCAB), repeat=COLUMNS)))
REAL = (STATES != MASK).all(-1)
STEPS = 4
RAW = 1.5 * torch.randn(
    STEPS + 1, len(STATES), COLUMNS, VOCAB, dtype=torch.float64, generator=torch.Generator().manual_seed(3)
)
CHAINS = ["absorbing", "uniform", "gaussian"]


def family_of(transition):
    table = {"gaussian": {"table": "linear", "high": 0.9}}.get(transition, {})
    return D3PM(steps=STEPS, transition=transition, weight=0, **table).build(VOCAB, MASK)


def place(tokens):
    return tokens[..., 0] * VOCAB + tokens[..., 1]


def network(tokens, t):
    """Raw outputs of states at times on the grid."""
    return RAW[(t[:, 0] * STEPS).round().long(), place(tokens)]


def joint(columns):
    """Float64[states]: a product over columns, Float64[COLUMNS, VOCAB]."""
    return (columns[0][:, None] * columns[1]).flatten()


def distribution(family):
    """Float64[states]: what the model draws."""
    p = joint(family.process.chain.stationary.expand(COLUMNS, -1))
    for i in range(STEPS, 0, -1):
        t, s = (torch.full((len(STATES), 1), j / STEPS, dtype=torch.float64) for j in (i, i - 1))
        raw = network(STATES, t)
        back = family.process.back(log_p(raw, MASK).exp(), STATES, s, t).softmax(-1)
        p = p @ torch.stack([joint(columns) for columns in back])
    return p


@pytest.mark.parametrize("transition", CHAINS)
def test_no_bound_lies_below_minus_log_p(transition):
    family, x_0 = family_of(transition), STATES[REAL]
    p, nats = distribution(family), torch.zeros(len(x_0), dtype=torch.float64)
    assert float(p.sum()) == pytest.approx(1, abs=1e-9)
    assert float(p[~REAL].sum()) == pytest.approx(0, abs=1e-9)
    for i in range(1, STEPS + 1):
        j = torch.full((len(x_0), 1), i)
        q = family.process.chain.after(x_0, j)
        for x_t in STATES:
            noisy, t = x_t.expand(len(x_0), -1), j.double() / STEPS
            chance = q.gather(-1, noisy[..., None])[..., 0].prod(-1)
            loss = family.bound.token_loss(network(noisy, t), x_0, noisy, t).sum(-1)
            nats += torch.where(chance > 0, chance * loss, 0.0) / STEPS
    assert (nats > -p[REAL].log() - 1e-9).all()


def frequencies(rule, prior, rows=20_000):
    canvas = infill([[None] * COLUMNS] * rows, prior)
    written = last(decode(canvas, lambda c, step: network(c.tokens, step.t), rule, Blocks(COLUMNS, STEPS))).tokens
    return torch.bincount(place(written), minlength=len(STATES)).double()


@pytest.mark.parametrize("transition", CHAINS)
def test_d3pm_draws_its_own_distribution(transition):
    family = family_of(transition)
    counts, p = frequencies(family.rule, family.process.prior), distribution(family)
    assert not counts[~REAL].any()
    assert chi_square(counts[REAL], p[REAL] / p[REAL].sum()) < 4


def test_masked_diffusion_draws_the_distribution_of_the_absorbing_chain():
    family = MDLM(schedule=Linear(eps=0)).build(VOCAB, MASK)
    counts, p = frequencies(family.rule, family.process.prior), distribution(family_of("absorbing"))
    assert not counts[~REAL].any()
    assert chi_square(counts[REAL], p[REAL] / p[REAL].sum()) < 4
