"""FlexMDM on a listed source of strings: shares of the process, optimal counts, what they cost, and the sampler."""

import math

import pytest
import torch
import torch.nn.functional as F
from strings import (
    ABSENT,
    BLANK,
    CLEAN,
    HIDDEN,
    LONGEST,
    MASK,
    REAL,
    STRINGS,
    Exact,
    chi_square,
    entropy,
    generated,
    inverse_softplus,
    last,
    surprise,
    ways,
    weights,
)

from mezzotint.batch import Batch
from mezzotint.decode.loop import decode
from mezzotint.decode.samplers.insert_delete import Whole, anchored, text
from mezzotint.families.flexmdm import FlexMDM, flexmdm, poisson
from mezzotint.processes.insertion import Insertion
from mezzotint.processes.mixture_path import Power, absent
from mezzotint.rng import Rng
from mezzotint.schedules import Polynomial

VOCAB = BLANK
FAMILIES = [
    FlexMDM(),
    FlexMDM(insert=Power(power=2.0), reveal=Power(power=3.0)),
    FlexMDM(insert=Polynomial(power=8.0, eps=0.0), weights="even"),
]


def optimal(exact, process):
    """t -> the optimal raw outputs of every state, [states, positions, VOCAB + 1]."""

    def raw(t):
        missing, truth = exact.means([share.reshape(()) for share in process.shares(t.double())])
        out = torch.full((*missing.shape[:2], VOCAB + 1), -torch.inf, dtype=torch.float64)
        out[..., :REAL] = torch.where(truth.sum(-1, keepdim=True) > 0, truth, 1.0).log()
        out[..., -1] = inverse_softplus(missing.sum(-1) / absent(process.insert, t.double()))
        return out

    return raw


@pytest.mark.parametrize(
    ("t", "wanted"),
    [
        (0.75, (0.034238445661, 0.215761554339, 0.75)),
        (0.5, (0.153426409720, 0.346573590280, 0.5)),
        (0.25, (0.403426409720, 0.346573590280, 0.25)),
    ],
)
def test_shares_of_two_linear_schedules(t, wanted):
    process = FlexMDM().build(VOCAB, MASK).process
    shares = torch.stack(process.shares(torch.tensor(t, dtype=torch.float64)))
    torch.testing.assert_close(shares, torch.tensor(wanted, dtype=torch.float64), rtol=0, atol=1e-11)


@pytest.mark.parametrize("settings", FAMILIES, ids=repr)
def test_corrupted_tokens_follow_the_shares(settings):
    process = settings.build(VOCAB, MASK).process
    t = torch.tensor([[0.3]], dtype=torch.float64)
    x_t = process.corrupt(torch.zeros(200, 500, dtype=torch.long), t, Rng(0))
    found = torch.tensor([float((x_t == token).double().mean()) for token in (0, MASK, BLANK)])
    torch.testing.assert_close(found, torch.cat(process.shares(t), -1)[0].float(), rtol=0, atol=6e-3)


def test_how_much_is_missing_depends_on_the_length_law():
    # length law (.3, .5, .2) on 1, 3, 4 tokens, survival .4
    law = {(0,): 0.3, (0,) * 3: 0.5, (0,) * 4: 0.2}
    found = ways((CLEAN, ABSENT), law)
    w = weights(found, (0.4, 0.0, 0.6))
    missing = torch.tensor([sum(map(len, way.missing)) for way in found], dtype=torch.float64)
    held = torch.tensor([len(way.state) for way in found])
    means = torch.stack([(w * missing)[held == n].sum() / w[held == n].sum() for n in range(4)])
    wanted = torch.tensor([1.93577982, 1.57819905, 1.32432432, 0.48979592], dtype=torch.float64)
    torch.testing.assert_close(means, wanted, rtol=0, atol=1e-8)


@pytest.mark.parametrize("settings", FAMILIES, ids=repr)
def test_the_exact_rates_cost_every_string_its_surprise(settings):
    exact, family = Exact(ways((CLEAN, HIDDEN, ABSENT))), settings.build(VOCAB, MASK)
    best, shares = optimal(exact, family.process), family.process.shares
    found = exact.bound(family, best, shares)
    torch.testing.assert_close(found, surprise(STRINGS), rtol=0, atol=1e-4)

    def longer(t):
        raw = best(t)
        return torch.cat([raw[..., :-1], inverse_softplus(1.1 * F.softplus(raw[..., -1:]))], -1)

    def blurred(t):
        raw = best(t)
        return torch.cat([0.7 * raw[..., :REAL].clamp_min(-20.0), raw[..., REAL:]], -1)

    p = torch.tensor(list(STRINGS.values()))
    for worse in (longer, blurred):
        assert (exact.bound(family, worse, shares) * p).sum() > entropy(STRINGS) + 1e-3


@pytest.mark.parametrize("confident", [False, True], ids=["any order", "surest first"])
def test_the_sampler_writes_the_source(confident):
    exact, family = Exact(ways((CLEAN, HIDDEN, ABSENT))), FlexMDM(confident=confident).build(VOCAB, MASK)
    best, rows = optimal(exact, family.process), 2000
    canvas = anchored([[None] * (LONGEST + 1)] * rows, BLANK)
    canvas = last(decode(canvas, lambda c, step: exact.at(best(step.t[0]), c.tokens), family.rule, Whole(96)))
    assert not canvas.open.any()
    assert not (canvas.tokens == MASK).any()
    counts = generated(text(canvas, BLANK), STRINGS)
    assert counts[-1] <= 0.01 * rows
    assert chi_square(counts[:-1], torch.tensor(list(STRINGS.values()))) < 4


def test_with_everything_present_from_the_start_it_is_masked_diffusion():
    class Present:
        """All tokens are there at all times but the very last."""

        def alpha(self, t):
            return torch.where(t < 1, 1.0, 0.0).to(t.dtype)

        def dalpha(self, t):
            return torch.zeros_like(t)

        def time(self, alpha):
            return torch.ones_like(alpha)

    family = flexmdm(Insertion(VOCAB, MASK, Present(), Power()))
    t = torch.full((400, 1), 0.6, dtype=torch.float64)
    tokens = torch.randint(0, REAL, (400, 50), generator=torch.Generator().manual_seed(0))
    x_t = family.process.corrupt(tokens, t, Rng(1))
    assert not (x_t == BLANK).any()
    assert float((x_t == MASK).double().mean()) == pytest.approx(0.6, abs=0.02)


def test_the_objective_scores_texts_of_different_lengths():
    family = FlexMDM().build(VOCAB, MASK)
    tokens = torch.tensor([[0, 1, BLANK, BLANK], [1, 0, 1, 1]] * 400)
    seen = []

    def network(inputs, t):
        seen.append(inputs.x)
        return torch.zeros(*inputs.x.shape, VOCAB + 1, dtype=torch.float64)

    loss = family.objective(network, Batch(tokens, tokens != BLANK), Rng(0))
    assert int(loss.count) == 6 * 400
    assert seen[0].shape == (800, 5)
    assert (seen[0][::2, 3:] == BLANK).all()
    torch.testing.assert_close(loss.per_token.sum() / loss.count, loss.total)
    # revealing costs log 2 per token; joining the divergence of a constant softplus(0) in every gap
    assert float(loss.total) > math.log(2)


def test_poisson_numbers():
    uniform = (torch.arange(20_000, dtype=torch.float64) + 0.5) / 20_000
    found = poisson(torch.tensor(2.3, dtype=torch.float64), uniform).double()
    assert float(found.mean()) == pytest.approx(2.3, abs=1e-3)
    assert float(found.var()) == pytest.approx(2.3, abs=5e-3)
    assert not poisson(torch.zeros(20_000), uniform).any()
