"""Score entropy is a likelihood: with exact scores its integral is -log p, and masked scores make it MDLM's loss."""

import math

import pytest
import torch
import torch.nn.functional as F
from sources import MARKOV, PAIR, TOKEN, masks
from test_uniform_bounds import exact, integral, nodes, simplex

from mezzotint.errors import ConfigError
from mezzotint.families.mdlm import mdlm
from mezzotint.families.sedd import SEDD
from mezzotint.processes.absorbing import Absorbing
from mezzotint.processes.uniform import Uniform
from mezzotint.schedules import Cosine, Exponential, Geometric, Linear

NEARLY = Linear(eps=1e-9)


def loss_of(noise, schedule, vocab, mask, answers="tokens"):
    return SEDD(noise=noise, schedule=schedule, answers=answers).build(vocab, mask).bound.token_loss


@pytest.mark.parametrize("schedule", [NEARLY, Cosine(eps=1e-9)], ids=lambda s: s.kind)
def test_exact_scores_of_masks_give_minus_log_p(schedule):
    vocab, mask, x_0 = MARKOV.real + 1, MARKOV.mask_id, MARKOV.sequences
    loss, total = loss_of("absorb", schedule, vocab, mask), torch.zeros(len(MARKOV.p), dtype=torch.float64)
    t, weight = nodes(1e-7, 200)
    a = schedule.alpha(t)
    t = t.repeat_interleave(len(x_0))[:, None]
    for hidden in masks(MARKOV.length):
        x_t = x_0.masked_fill(hidden, mask)
        raw = F.pad(MARKOV.masked(x_t).clamp_min(1e-300).log(), (0, 1), value=-1e9)
        nats = loss(*(x.repeat(len(a), 1, *[1] * (x.dim() - 2)) for x in (raw, x_0, x_t)), t).sum(-1)
        chance = (1 - a) ** int(hidden.sum()) * a ** int((~hidden).sum())
        total += ((weight * chance)[:, None] * nats.view(len(a), -1)).sum(0)
    torch.testing.assert_close(total, -MARKOV.p.log(), rtol=0, atol=2e-6)


@pytest.mark.parametrize("source", [TOKEN, PAIR], ids=lambda s: s.name)
def test_exact_scores_of_uniform_noise_give_minus_log_p(source):
    vocab, mask, schedule = source.real + 1, source.mask_id, Exponential(high=40.0)
    process = Uniform(vocab, schedule, mask)
    loss = loss_of("uniform", schedule, vocab, mask)
    found = integral(source, process, loss, exact(source, process), count=300)
    torch.testing.assert_close(found, -source.p.log(), rtol=0, atol=2e-6)


@pytest.mark.parametrize("schedule", [Linear(), Geometric(low=1e-4)], ids=lambda s: s.kind)
def test_scores_from_predictions_make_the_loss_mdlm(schedule):
    raw, x, t = simplex(60, 4), torch.arange(60)[None] % 3, torch.full((1, 1), 0.3, dtype=torch.float64)
    x_t = torch.full_like(x, 3)
    ours = loss_of("absorb", schedule, 4, 3)(raw, x, x_t, t)
    masked = mdlm(Absorbing(4, 3, schedule)).objective.token_loss(raw, x, x_t, t)
    torch.testing.assert_close(ours, masked, rtol=1e-9, atol=1e-10)


def test_scaled_scores_of_order_one_are_the_same_scores():
    raw, x, t = simplex(60, 4), torch.arange(60)[None] % 3, torch.full((1, 1), 0.3, dtype=torch.float64)
    x_t = torch.full_like(x, 3)
    scores, tokens = (loss_of("absorb", Linear(), 4, 3, answers) for answers in ("scores", "tokens"))
    # log x_0 + log(alpha / (1 - alpha)) is what the network answers minus log(e^sigma - 1) and log(V - 1)
    raw = raw[..., :3].log_softmax(-1)
    same = F.pad(raw, (0, 1)) + torch.log(torch.tensor(3.0, dtype=torch.float64))
    torch.testing.assert_close(scores(same, x, x_t, t), tokens(F.pad(raw, (0, 1)), x, x_t, t))


def slope_at_the_exact_answer(settings, z, raw):
    """The derivative of the loss, averaged over p(x_0 | z), by the raw output; p is 0.5, 0.3, 0.2."""
    family, t = settings.build(4, 3), torch.full((1, 1), 0.5, dtype=torch.float64)
    p = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
    if settings.noise == "uniform":
        a = family.process.alpha(t)[0, 0]
        p = p * (a * F.one_hot(torch.tensor(z), 3) + (1 - a) / 3)
    raw = raw.clone().requires_grad_()
    nats = [family.bound.token_loss(raw, torch.tensor([[v]]), torch.tensor([[z]]), t).sum() for v in range(3)]
    (slope,) = torch.autograd.grad(sum(w * n for w, n in zip(p / p.sum(), nats, strict=True)), raw)
    return slope[0, 0, :3]


@pytest.mark.parametrize(("noise", "z"), [("absorb", 3), ("uniform", 0)])
@pytest.mark.parametrize("scaled", [True, False])
def test_the_loss_has_its_minimum_at_the_exact_scores(noise, z, scaled):
    best, x, t = torch.zeros(1, 1, 4, dtype=torch.float64), torch.tensor([[z]]), torch.full((1, 1), 0.5).double()
    best[..., :3] = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64).log()
    settings = SEDD(noise=noise, scaled=scaled)
    if scaled:
        # scaled outputs are log N p(x_0)
        raw = best + torch.log(torch.tensor(3.0))
    else:
        raw = SEDD(noise=noise, answers="tokens").build(4, 3).rule.update.reading(best, x, t).clamp_min(-30)
    slope = slope_at_the_exact_answer(settings, z, raw)
    torch.testing.assert_close(slope, torch.zeros(3, dtype=torch.float64), rtol=0, atol=1e-7)
    # and elsewhere it has a slope
    assert slope_at_the_exact_answer(settings, z, raw + 0.1 * torch.arange(4)).abs().max() > 1e-3


def test_scaled_scores_of_uniform_noise_are_those_of_the_tokens():
    raw, x_t = simplex(40, 4)[..., :3].log_softmax(-1), torch.arange(40)[None] % 3
    raw = F.pad(raw, (0, 1))
    mixed, ratios = (SEDD(noise="uniform", answers=a).build(4, 3).rule.update.reading for a in ("scores", "tokens"))
    for moment in (1e-3, 0.3, 1.0):
        t = torch.full((1, 1), moment, dtype=torch.float64)
        torch.testing.assert_close(mixed(raw + math.log(3), x_t, t), ratios(raw, x_t, t))


def test_a_fresh_network_knows_nothing_and_no_more():
    # zeros are even scores, whose bound is log N on any schedule
    x_0, bound = TOKEN.sequences, SEDD(noise="uniform", schedule=Exponential(high=40.0)).build(4, 3).bound
    process = Uniform(4, Exponential(high=40.0), 3)
    raw = integral(TOKEN, process, bound.token_loss, lambda x_t, t: torch.zeros(*x_t.shape, 4).double(), count=300)
    torch.testing.assert_close(raw, torch.full((len(x_0),), math.log(3)).double(), rtol=0, atol=2e-6)


def test_scores_need_some_survival_at_the_noise_end():
    with pytest.raises(ConfigError, match="survival at t = 1"):
        SEDD(schedule=Linear(eps=0)).build(4, 3)
