"""D3PM by brute force: bounds are -log p of every sequence, samplers draw the source, the parts of a chain agree."""

import math

import pytest
import torch

from mezzotint.batch import Batch
from mezzotint.config import from_dict
from mezzotint.decode.canvas import write
from mezzotint.decode.loop import decode
from mezzotint.decode.plan import Blocks
from mezzotint.errors import ConfigError, VocabularyError
from mezzotint.families.d3pm import D3PM, d3pm
from mezzotint.processes.markov import beta_schedules, transition_matrices
from mezzotint.processes.markov.chain import Ending, ListedChain, Mixing, Powers, even, mask, survival
from mezzotint.processes.markov.process import Chained
from mezzotint.rng import Rng

V, T = 7, 6
RATES = transition_matrices.neighbours(torch.randn(V, 3, generator=torch.Generator().manual_seed(0)), 2)
CHAINS = {
    "uniform": Mixing(survival(beta_schedules.cosine(T)), even(V)),
    "absorbing": Mixing(survival(beta_schedules.standard(T)), mask(V, 4)),
    "band": ListedChain(transition_matrices.bounded(V, beta_schedules.cosine(T), 2)),
    "gaussian": ListedChain(transition_matrices.gaussian(V, beta_schedules.linear(T, 0.02, 0.9), 1.0)),
    "neighbours": Powers(transition_matrices.power(RATES, 0.3), torch.tensor([0, 1, 2, 4, 7, 11, 30])),
    "ending": Ending(Powers(transition_matrices.power(RATES, 0.3), torch.tensor([0, 1, 2, 4, 7, 11, 11])), 6),
    "apart": transition_matrices.without(
        transition_matrices.gaussian(V - 1, beta_schedules.linear(T, 0.02, 0.9), 1.0), 2
    ),
}


@pytest.fixture(params=CHAINS)
def chain(request):
    return CHAINS[request.param]


def at(k):
    return torch.tensor([[k]])


def test_rows_sum_to_one_and_steps_multiply(chain):
    for i in range(T):
        for j in range(i + 1, T + 1):
            product = torch.eye(V, dtype=torch.float64)
            for step in range(i, j):
                product = product @ chain.matrix(step, step + 1)
            torch.testing.assert_close(chain.matrix(i, j), product, atol=1e-10, rtol=1e-8)
            torch.testing.assert_close(chain.matrix(i, j).sum(-1), torch.ones(V, dtype=torch.float64))


def test_forward_and_backward_read_the_same_matrix(chain):
    x = torch.arange(V)[None]
    for i, j in ((0, 1), (0, T), (2, 3), (1, T)):
        torch.testing.assert_close(chain.backward(x, at(i), at(j))[0].mT, chain.matrix(i, j), atol=1e-12, rtol=1e-9)


def test_rows_of_a_batch_may_stand_at_different_times(chain):
    x = torch.tensor([[0, 3], [5, 1], [2, 6]])
    p = torch.rand(3, 2, V, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    i, j = torch.tensor([[0], [2], [1]]), torch.tensor([[3], [3], [T]])
    for row in range(3):
        one = slice(row, row + 1)
        torch.testing.assert_close(chain(p, i, j)[one], chain(p[one], i[one], j[one]))
        torch.testing.assert_close(chain.backward(x, i, j)[one], chain.backward(x[one], i[one], j[one]))


def test_the_posterior_averages_to_the_forward_process(chain):
    """Sum over x_t of q(x_s | x_t, x_0) q(x_t | x_0) is q(x_s | x_0)."""
    process = Chained(chain)
    for x_0 in range(V):
        for s, t in ((1, 2), (2, T), (0, 1)):
            x_t = torch.arange(V)[None]
            p0 = process.clean(torch.full((1, V), x_0), torch.float64)
            back = process.back(p0, x_t, at(s) / T, at(t) / T).softmax(-1)[0]
            after = chain.after(torch.tensor([[x_0]]), at(t))[0, 0]
            want = chain.after(torch.tensor([[x_0]]), at(s))[0, 0]
            torch.testing.assert_close((after[:, None] * back).sum(0), want, atol=1e-9, rtol=1e-7)


def test_noise_is_drawn_from_the_chain(chain):
    process, rows = Chained(chain), 30_000
    for step in (2, T):
        x = process.corrupt(torch.full((rows, 1), 3), torch.full((rows, 1), step / T), Rng(step))
        found = torch.bincount(x[:, 0], minlength=V) / rows
        torch.testing.assert_close(found.double(), chain.after(torch.tensor([[3]]), at(step))[0, 0], atol=0.015, rtol=0)


def test_a_chain_ends_where_its_prior_is():
    for name in ("absorbing", "ending"):
        process = Chained(CHAINS[name])
        assert float(process.missed(torch.arange(V)[None]).abs().max()) < 1e-9
    drawn = Chained(CHAINS["apart"]).prior((200, 20), None, Rng(0))
    assert sorted(drawn.unique().tolist()) == [0, 1, 3, 4, 5, 6]


FIRST = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
STEP = torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.6, 0.3], [0.3, 0.3, 0.4]], dtype=torch.float64)
PAIRS = [(a, b) for a in range(3) for b in range(3)]


def exact(x_t):
    """Log-probabilities of both clean tokens of a pair of which some are masked (3), Float64[B, 2, 4]."""
    out = []
    for seen in x_t.tolist():
        p = torch.zeros(2, 4, dtype=torch.float64)
        for a, b in PAIRS:
            if seen[0] in (3, a) and seen[1] in (3, b):
                weight = FIRST[a] * STEP[a, b]
                p[0, a] += weight
                p[1, b] += weight
        out.append(p / p.sum(-1, keepdim=True))
    return torch.stack(out).log()


def absorbing_bound(steps, x_0):
    """The bound of the absorbing chain with exact conditionals, masks and times enumerated."""
    family = d3pm(Chained(Mixing(survival(beta_schedules.standard(steps)), mask(4, 3))), 0.0, never=3)
    clean, total = torch.tensor([x_0]), 0.0
    for k in range(1, steps + 1):
        for hidden in ((0, 1), (1, 0), (1, 1)):
            x_t = torch.where(torch.tensor([hidden]) == 1, 3, clean)
            chance = math.prod(k / steps if h else 1 - k / steps for h in hidden)
            t = torch.tensor([[k / steps]], dtype=torch.float64)
            total += chance * float(family.objective.token_loss(exact(x_t), clean, x_t, t).sum())
    return total


def test_with_many_steps_the_absorbing_bound_is_exact():
    """T to infinity: every sequence costs -log p, as MDLM's bound does; T finite costs more."""
    gaps = []
    for steps in (8, 64):
        p = [float(FIRST[a] * STEP[a, b]) for a, b in PAIRS]
        costs = [absorbing_bound(steps, x) for x in PAIRS]
        gaps.append(sum(q * (c + math.log(q)) for q, c in zip(p, costs, strict=True)))
    assert 0 < gaps[1] < gaps[0] / 6
    assert gaps[1] * 64 == pytest.approx(gaps[0] * 8, rel=0.05)


@pytest.mark.parametrize("steps", [1, 4, 16, 64])
def test_the_uniform_bound_of_one_token_is_exact_with_its_distribution_plugged_in(steps):
    process = Chained(Mixing(survival(beta_schedules.standard(steps)), even(3)), floor=1e-300)
    family = d3pm(process, 0.0)
    raw = FIRST.log()[None, None]
    for x_0 in range(3):
        clean, total = torch.tensor([[x_0]]), 0.0
        for k in range(1, steps + 1):
            q = process.chain.after(clean, at(k))[0, 0]
            t = torch.tensor([[k / steps]], dtype=torch.float64)
            for x_t in range(3):
                total += float(q[x_t] * family.objective.token_loss(raw, clean, torch.tensor([[x_t]]), t))
        assert total + float(process.missed(clean)) == pytest.approx(-math.log(FIRST[x_0]), abs=1e-9)


def test_the_bound_objective_is_the_sum_over_all_steps():
    family = D3PM(steps=8, weight=0.5).build(4, 3)
    tokens = torch.randint(0, 3, (4000, 2), generator=torch.Generator().manual_seed(3))
    batch = Batch(tokens, torch.ones_like(tokens, dtype=torch.bool))
    flat = family.bound(lambda inputs, t: torch.zeros(*inputs.x.shape, 4), batch, Rng(0))
    torch.testing.assert_close(float(flat.total), math.log(3), rtol=0.02, atol=0)
    trained = family.objective(lambda inputs, t: torch.zeros(*inputs.x.shape, 4), batch, Rng(0))
    torch.testing.assert_close(float(trained.total), math.log(3) * (1 / 8 + 0.5), rtol=0.02, atol=0)


@pytest.mark.parametrize("transition", ["absorbing", "uniform", "gaussian", "band", "neighbours"])
def test_samplers_draw_the_source_of_one_token(transition):
    """With the distribution itself plugged in, which is exact for one token, whatever the chain (18.7)."""
    table = "standard" if transition in ("absorbing", "uniform") else "linear"
    near = ((1, 2), (0, 2), (0, 1), ())
    family = D3PM(transition=transition, table=table, steps=40, high=0.99, width=3, nearest=near).build(4, 3)
    rows = 12_000
    canvas = write([[]] * rows, 1, family.process.prior)
    raw = torch.cat([FIRST.log(), torch.zeros(1, dtype=torch.float64)]).expand(rows, 1, 4)
    *_, last = decode(canvas, lambda canvas, step: raw, family.rule, Blocks(1, 40))
    counts = torch.bincount(last.tokens[:, 0], minlength=4).double()
    assert counts[3] == 0
    chi = float(((counts[:3] - rows * FIRST) ** 2 / (rows * FIRST)).sum())
    assert chi < 13.8, counts


def test_the_absorbing_sampler_draws_pairs_like_the_source():
    family = D3PM(steps=64).build(4, 3)
    rows = 12_000
    canvas = write([[]] * rows, 2, family.process.prior)
    table = exact(torch.tensor([(a, b) for a in range(4) for b in range(4)]))

    def denoise(canvas, step):
        return table[canvas.tokens[:, 0] * 4 + canvas.tokens[:, 1]]

    *_, last = decode(canvas, denoise, family.rule, Blocks(2, 64))
    counts = torch.bincount(last.tokens[:, 0] * 3 + last.tokens[:, 1], minlength=9).double()
    want = rows * (FIRST[:, None] * STEP).flatten()
    assert float(((counts - want) ** 2 / want).sum()) < 26.1, counts


def test_skipping_steps_multiplies_the_skipped_matrices():
    process = Chained(CHAINS["gaussian"])
    p0 = torch.rand(1, 1, V, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    got = process.back(p0, torch.tensor([[3]]), at(1) / T, at(5) / T).exp()[0, 0]
    chain = process.chain
    torch.testing.assert_close(got, (p0[0, 0] @ chain.matrix(0, 1)) * chain.matrix(1, 5)[:, 3])


def test_configurations_that_cannot_be_are_refused():
    with pytest.raises(VocabularyError, match="cannot use 9 as the mask"):
        D3PM().build(4, 9)
    with pytest.raises(ConfigError):
        from_dict(D3PM, {"transition": "near"})
    with pytest.raises(ConfigError, match="cannot find 7 neighbours"):
        transition_matrices.neighbours(torch.zeros(7, 2), 7)
    with pytest.raises(ConfigError, match="never fall"):
        Powers(torch.eye(3), torch.tensor([0, 3, 2]))


def test_a_monotone_curve_goes_through_its_points_and_never_turns():
    x = torch.tensor([0.0, 0.1, 0.5, 0.6, 1.0], dtype=torch.float64)
    y = torch.tensor([0.0, 0.0, 1.0, 4.0, 4.5], dtype=torch.float64)
    torch.testing.assert_close(beta_schedules.monotone(x, y, x), y)
    fine = beta_schedules.monotone(x, y, torch.linspace(0, 1, 501, dtype=torch.float64))
    assert bool((fine.diff() >= -1e-12).all())


TEXT = torch.tensor([0, 1, 2, 1, 0, 2, 0, 1, 2, 2, 1, 0]).repeat(40)
"""1 and 2 follow 0 and each other; 3 is [MASK], 4 is not in the text."""


@pytest.mark.parametrize("transition", ["uniform", "neighbours"])
def test_by_information_every_step_takes_as_much_of_what_is_known(transition):
    settings = D3PM(transition=transition, table="information", steps=9, width=2).counted(TEXT, 5)
    assert sum(settings.counts) == len(TEXT)
    assert settings.counted(TEXT, 5) == settings
    chain = settings.build(5, 3).process.chain
    p_0 = torch.tensor(settings.counts).double() / len(TEXT)
    left = []
    for k in range(10):
        joint = p_0[:, None] * chain.matrix(0, k)
        entropy = [-torch.xlogy(p, p).sum() for p in (joint, joint.sum(0), p_0)]
        left.append(float((entropy[1] + entropy[2] - entropy[0]) / entropy[2]))
    wanted = [1 - k / 10 for k in range(10)]
    # powers of neighbours are whole, published tables' too
    assert left == pytest.approx(wanted, abs=1e-2 if transition == "uniform" else 0.03)
    assert float(chain.matrix(0, 9)[:3, 3].sum()) == 0


def test_into_masks_the_table_by_information_is_the_standard_one():
    one, two = (D3PM(table=table, steps=9).counted(TEXT, 5).build(5, 3) for table in ("information", "standard"))
    torch.testing.assert_close(one.process.chain.alpha, two.process.chain.alpha)


def test_neighbours_are_those_that_are_used_alike():
    # the first three stand between the others, and the others between them
    dice = torch.randint(0, 3, (6000,), generator=torch.Generator().manual_seed(0))
    text = dice + 3 * (torch.arange(6000) % 2)
    settings = D3PM(transition="neighbours", width=2).counted(text, 8)
    assert [set(near) for near in settings.nearest] == [{1, 2}, {0, 2}, {0, 1}, {4, 5}, {3, 5}, {3, 4}, set(), set()]
    assert settings.counts == ()


def test_chains_that_need_a_text_say_so():
    for edits, sentence in (
        ({"transition": "neighbours"}, "needs those of every id"),
        ({"transition": "uniform", "table": "information"}, "give their counts"),
        ({"transition": "band", "table": "information"}, "no power of one matrix"),
    ):
        with pytest.raises(ConfigError, match=sentence):
            D3PM(**edits).build(5, 3)
    with pytest.raises(ConfigError, match="a matrix over all 5000 ids"):
        D3PM(transition="neighbours").counted(TEXT, 5000)


def test_known_matrices():
    """Worked by hand from App. A.2.3 and A.2.4: a Gaussian of five ids, and the points 0, 1, 1.9 and 5 on a line."""
    found = transition_matrices.gaussian(5, torch.tensor([0.2]), 1.0)[0]
    wanted = {0: (0.81515687, 0.18058791, 0.00424702, 8.2e-6, 0), 2: (0.00424702, 0.18058791, 0.63033014)}
    for row, values in wanted.items():
        torch.testing.assert_close(found[row, : len(values)], torch.tensor(values).double(), rtol=0, atol=1e-7)
    torch.testing.assert_close(found, found.mT)
    moved = transition_matrices.power(transition_matrices.rates([[1], [2], [1], [2]]), 0.5)
    wanted = ((0.80002974, 0.16053687, 0.0361978, 0.00323559), (0.16053687, 0.55135161, 0.25191372, 0.0361978))
    torch.testing.assert_close(moved[:2], torch.tensor(wanted).double(), rtol=0, atol=1e-7)
    torch.testing.assert_close(moved.sum(0), torch.ones(4).double())


def test_known_values_of_the_cosine_table():
    beta = beta_schedules.cosine(1000)
    assert float(beta[0]) == pytest.approx(2.0642e-5, rel=1e-4)
    assert float(survival(beta)[500]) == pytest.approx(0.70274, abs=1e-5)
