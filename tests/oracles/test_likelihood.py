"""Estimates of log p(answer | prompt): their mean over all masks is the any-order bound, exactly, by enumeration."""

import itertools
import math

import pytest
import torch
from sources import MARKOV, masks

from mezzotint.batch import Batch
from mezzotint.denoisers.wrappers import ClassifierFree
from mezzotint.errors import ConfigError, RequestError
from mezzotint.layouts import Attend, Inputs
from mezzotint.objectives.likelihood import Likelihood, counts
from mezzotint.processes.absorbing import Absorbing
from mezzotint.processes.subs import subs
from mezzotint.rng import Rng
from mezzotint.schedules import Cosine, Linear

VOCAB, MASK, LENGTH = MARKOV.real + 1, MARKOV.mask_id, MARKOV.length
PROCESS = Absorbing(VOCAB, MASK, Linear(eps=0))
TEXTS = MARKOV.sequences
PROMPTS = {"no prompt": [], "first": [0], "in the middle": [1, 2]}


@pytest.fixture(params=PROMPTS.values(), ids=PROMPTS)
def target(request):
    target = torch.ones(LENGTH, dtype=torch.bool)
    target[request.param] = False
    return target


def exact(inputs, t):
    """The logarithms of the source's conditionals, and a large logit for [MASK]."""
    return torch.nn.functional.pad(MARKOV.masked(inputs.x).clamp_min(1e-300).log(), (0, 1), value=3.0)


def wrong(inputs, t):
    """A network that fits no joint distribution: every order of revealing gives another probability."""
    table = torch.randn(2, VOCAB, LENGTH, VOCAB, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    columns = torch.arange(inputs.x.shape[1])
    return table[0][inputs.x, columns] + table[1][inputs.x, columns].sum(1, keepdim=True).sin()


def clean(raw, x_t):
    return subs(raw, x_t, MASK)


def batch_of(texts, target):
    return Batch(texts, target.expand(len(texts), -1))


def told(network, texts):
    columns = texts.shape[1]
    return network(Inputs(texts, torch.arange(columns), Attend(columns, columns)), None)


def mean_over_masks(estimate, network, target):
    """What the estimate is in expectation, Float64[texts]: l is uniform, then every set of l columns."""
    sets = masks(LENGTH)
    sets = sets[sets.any(-1) & ~(sets & ~target).any(-1)]
    length = int(target.sum())
    chance = torch.tensor([1 / (length * math.comb(length, int(count))) for count in sets.sum(-1)]).double()
    assert float(chance.sum()) == pytest.approx(1)
    each = estimate.each(network, batch_of(TEXTS, target), sets.expand(len(TEXTS), -1, -1))
    return (each * chance.to(each)).sum(-1)


@pytest.mark.parametrize(
    "schedule", [Linear(eps=0), Linear(), Cosine()], ids=["linear", "linear with a rest", "cosine"]
)
def test_with_exact_conditionals_it_is_the_probability_of_the_answer(target, schedule):
    estimate = Likelihood(Absorbing(VOCAB, MASK, schedule), predict=clean)
    shown = torch.where(target, -1, TEXTS)
    same = (shown[:, None] == shown[None]).all(-1).double()
    wanted = MARKOV.p.log() - (same @ MARKOV.p).log()
    torch.testing.assert_close(mean_over_masks(estimate, exact, target), wanted)


def test_with_any_network_it_is_the_mean_over_all_orders_of_revealing(target):
    total, orders = torch.zeros(len(TEXTS), dtype=torch.float64), list(itertools.permutations(target.nonzero()[:, 0]))
    for order in orders:
        x = TEXTS.masked_fill(target, MASK)
        for column in order:
            logp = told(wrong, x).log_softmax(-1)[:, column]
            total += logp.gather(-1, TEXTS[:, column, None])[:, 0]
            x[:, column] = TEXTS[:, column]
    found = mean_over_masks(Likelihood(PROCESS), wrong, target)
    torch.testing.assert_close(found, total / len(orders))


def test_every_draw_hides_a_uniform_number_of_columns():
    for length, draws in itertools.product(range(1, 9), range(1, 11)):
        found = counts(torch.full((length,), length), draws, torch.arange(length)).sort(0).values
        assert torch.equal(found, torch.arange(1, length + 1)[:, None].expand(-1, draws))
        if draws % length == 0:
            one = counts(torch.tensor([length]), draws, torch.tensor([0]))[0]
            assert (one.bincount(minlength=length + 1)[1:] == draws // length).all()


def test_masks_are_uniform_among_those_of_their_size_and_spare_the_prompt(target):
    texts, length = 3000, int(target.sum())
    found = Likelihood(PROCESS, draws=3).masks(batch_of(TEXTS[:1].expand(texts, -1), target), Rng(2))
    assert not (found & ~target).any()
    places = 2 ** torch.arange(LENGTH - 1, -1, -1)
    often = (found * places).sum(-1).flatten().bincount(minlength=2**LENGTH) / (3 * texts)
    for hidden, share in zip(masks(LENGTH), often.tolist(), strict=True):
        possible = bool(hidden.any()) and not (hidden & ~target).any()
        chance = 1 / (length * math.comb(length, int(hidden.sum()))) if possible else 0.0
        assert share == pytest.approx(chance, abs=4 * math.sqrt(chance / (3 * texts)))


def test_24_the_mean_of_estimates_is_the_bound_and_sharing_out_numbers_lowers_their_spread():
    texts, target, draws = 4000, torch.tensor([False, True, True, True]), 3
    batch, wanted = (
        batch_of(TEXTS[40:41].expand(texts, -1), target),
        mean_over_masks(Likelihood(PROCESS), wrong, target),
    )
    shared = Likelihood(PROCESS, draws=draws, rows=4096)(wrong, batch, Rng(0))
    single = Likelihood(PROCESS, draws=1, rows=4096)
    apart = torch.stack([single(wrong, batch, Rng(seed)) for seed in range(1, draws + 1)]).mean(0)
    for found in (shared, apart):
        assert float(found.mean()) == pytest.approx(float(wanted[40]), abs=4 * float(found.std()) / math.sqrt(texts))
    assert shared.var() < apart.var()


def test_an_estimate_depends_on_its_seed_alone(target):
    batch, seeds = batch_of(TEXTS[30:40], target), torch.arange(10) + 7
    found = Likelihood(PROCESS, draws=5)(wrong, batch, Rng(seeds))
    assert torch.equal(found, Likelihood(PROCESS, draws=5)(wrong, batch, Rng(seeds)))
    torch.testing.assert_close(found, Likelihood(PROCESS, draws=5, rows=3)(wrong, batch, Rng(seeds)))
    alone = [
        Likelihood(PROCESS, draws=5)(wrong, batch_of(TEXTS[30 + i, None], target), Rng(seeds[i, None])) for i in (0, 9)
    ]
    torch.testing.assert_close(found[[0, 9]], torch.cat(alone))
    assert not torch.allclose(found, Likelihood(PROCESS, draws=5)(wrong, batch, Rng(seeds + 100)))


def test_answers_of_one_token_need_one_draw():
    target = torch.arange(LENGTH) == 2
    batch = batch_of(TEXTS, target)
    found = Likelihood(PROCESS, draws=1)(wrong, batch, Rng(0))
    x = TEXTS.masked_fill(target, MASK)
    torch.testing.assert_close(found, told(wrong, x).log_softmax(-1)[:, 2].gather(-1, TEXTS[:, 2:3])[:, 0])
    torch.testing.assert_close(found, Likelihood(PROCESS, draws=4)(wrong, batch, Rng(1)))


def test_guidance_is_that_of_the_wrapper_that_masks_the_prompt(target):
    batch = batch_of(TEXTS[20:30], target)

    def blind(inputs, t):
        return Inputs(inputs.x.masked_fill(~target, MASK), inputs.positions, inputs.attend), t

    class Network(torch.nn.Module):
        def forward(self, inputs, t):
            return wrong(inputs, t)

    guided = ClassifierFree(Network(), blind, scale=2.5).eval()
    found = Likelihood(PROCESS, draws=4, guidance=1.5)(wrong, batch, Rng(3))
    plain = Likelihood(PROCESS, draws=4)
    torch.testing.assert_close(found, plain(guided, batch, Rng(3)))
    if not target.all():
        assert not torch.allclose(found, plain(wrong, batch, Rng(3)))


def test_the_network_is_told_the_time_at_which_that_share_is_hidden():
    process, seen = Absorbing(VOCAB, MASK, Cosine(eps=0)), []

    def network(inputs, t):
        seen.append((inputs.x, t))
        return wrong(inputs, t)

    batch = batch_of(TEXTS[:6], torch.tensor([False, True, True, True]))
    Likelihood(process, draws=3)(network, batch, Rng(0))
    ((x, t),) = seen
    torch.testing.assert_close(1 - process.alpha(t)[:, 0], (x == MASK).sum(-1) / 3, atol=1e-6, rtol=0)


def test_half_precision_logits_are_summed_in_more(target):
    batch = batch_of(TEXTS, target)

    def half(inputs, t):
        return wrong(inputs, t).bfloat16()

    def rounded(inputs, t):
        return wrong(inputs, t).bfloat16().double()

    estimate = Likelihood(PROCESS, draws=6, guidance=0.5)
    found, wanted = (estimate(network, batch, Rng(0)) for network in (half, rounded))
    assert found.dtype == torch.float64
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)


def test_gradients_are_those_of_the_estimate():
    target, tokens = torch.tensor([False, True, True]), torch.tensor([[0, 1, 2], [2, 0, 1]])
    estimate = Likelihood(PROCESS, draws=3, rows=2, guidance=0.7)

    def scored(table):
        return estimate(lambda inputs, t: table[inputs.x] * (1 + inputs.x.sum(-1))[:, None, None], batch, Rng(1))

    batch = batch_of(tokens, target)
    table = torch.randn(VOCAB, VOCAB, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert torch.autograd.gradcheck(scored, table.requires_grad_())


def test_what_cannot_be_scored_is_refused():
    target = torch.tensor([False, True, True, False])
    batch, estimate = batch_of(TEXTS[:2], target), Likelihood(PROCESS, draws=2)
    with pytest.raises(RequestError, match="text 1: it has no answer"):
        estimate(wrong, Batch(batch.tokens, torch.stack([target, target & False])), Rng(0))
    nothing, prompt = target & False, torch.arange(LENGTH) == 0
    for hidden in (nothing, prompt, target | prompt):
        with pytest.raises(RequestError, match="must hide answer columns"):
            estimate.each(wrong, batch, torch.stack([target, hidden]).expand(2, -1, -1))
    for name in ("draws", "rows"):
        with pytest.raises(ConfigError, match=f"{name} = 0"):
            Likelihood(PROCESS, **{name: 0})
