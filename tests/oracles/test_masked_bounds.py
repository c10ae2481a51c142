"""The bounds of masked and of block diffusion on a chain whose probabilities are known, by enumeration over masks."""

import numpy as np
import pytest
import torch
from sources import MARKOV, masks

from mezzotint.batch import Batch
from mezzotint.denoisers.networks.small_transformer import TransformerConfig
from mezzotint.families.bd3lm import BD3LM, bd3lm
from mezzotint.families.mdlm import MDLM, mdlm
from mezzotint.objectives.discrete_time_bound import DiscreteTimeBound
from mezzotint.processes.absorbing import Absorbing
from mezzotint.processes.subs import subs
from mezzotint.rng import Rng
from mezzotint.schedules import Cosine, Linear, Polynomial
from mezzotint.train.muon import Muon

VOCAB, MASK, LENGTH = MARKOV.real + 1, MARKOV.mask_id, MARKOV.length


def exact(inputs, t=None):
    """log p(x_0 column | what the layout lets it see), Float64[B, N, V]."""
    block = inputs.attend.twin or LENGTH
    noisy, clean = inputs.x[:, :LENGTH], inputs.x[:, -LENGTH:]
    answers = []
    for start in range(0, LENGTH, block):
        seen = torch.full_like(noisy, MASK)
        seen[:, :start], seen[:, start : start + block] = clean[:, :start], noisy[:, start : start + block]
        answers.append(MARKOV.masked(seen)[:, start : start + block])
    log = torch.cat([*answers], 1).clamp_min(1e-300).log()
    log = torch.nn.functional.pad(log, (0, 1), value=0.0)
    return torch.cat([log, log], 1) if inputs.attend.twin else log


def bound(objective, denoiser=exact):
    """The NELBO of every sequence: quadrature over t, enumeration over masks, which are drawn column by column."""
    parts, x_0 = objective.reference, MARKOV.sequences
    nodes, weights = np.polynomial.legendre.leggauss(64)
    total = torch.zeros(len(x_0), dtype=torch.float64)
    for hidden in masks(LENGTH):
        x_t = x_0.masked_fill(hidden, MASK)
        raw = parts.layout.extract(denoiser(parts.layout.arrange(x_t, x_0)))
        for node, weight in zip((nodes + 1) / 2, weights / 2, strict=True):
            t = torch.full((len(x_0), 1), node, dtype=torch.float64)
            a = parts.process.alpha(t)[:, 0]
            chance = (1 - a) ** int(hidden.sum()) * a ** int((~hidden).sum())
            total += weight * chance * objective.token_loss(raw, x_0, x_t, t).sum(1)
    return total


@pytest.mark.parametrize("schedule", [Linear(eps=0), Cosine(eps=0), Polynomial(eps=0)], ids=lambda s: s.kind)
def test_mdlm_with_exact_conditionals_is_exact_under_every_schedule(schedule):
    found = bound(mdlm(Absorbing(VOCAB, MASK, schedule)).objective)
    torch.testing.assert_close(found, -MARKOV.p.log(), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("settings", [MDLM(), MDLM(schedule=Cosine()), MDLM(weights="even"), BD3LM(block=2)], ids=str)
def test_the_bounds_that_are_reported_leave_out_nothing(settings):
    found = bound(settings.build(VOCAB, MASK).bound)
    torch.testing.assert_close(found, -MARKOV.p.log(), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("block", [1, 2, 4])
def test_bd3lm_with_exact_conditionals_is_exact_for_every_block(block):
    found = bound(bd3lm(Absorbing(VOCAB, MASK, Linear(eps=0)), block).objective)
    torch.testing.assert_close(found, -MARKOV.p.log(), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("block", "nats"), [(1, 3.7187948401758337), (2, 4.022944806353924), (4, 4.242448006677714)])
def test_one_step_per_block(block, nats):
    parts = bd3lm(Absorbing(VOCAB, MASK, Linear(eps=0)), block).objective.reference
    x_0, t = MARKOV.sequences, torch.ones(len(MARKOV.sequences), 1, dtype=torch.float64)
    x_t = parts.process.corrupt(x_0, t, Rng(0))
    assert (x_t == MASK).all()
    loss = parts.token_loss(parts.layout.extract(exact(parts.layout.arrange(x_t, x_0))), x_0, x_t, t)
    torch.testing.assert_close((MARKOV.p * loss.sum(1)).sum(), torch.tensor(nats, dtype=torch.float64))


@pytest.mark.parametrize(
    ("steps", "nats"),
    [(1, 4.242448006677714), (2, 3.9697501679099534), (4, 3.841554690163689), (16, 3.748975212570447)],
)
def test_a_chain_of_steps(steps, nats):
    chain = DiscreteTimeBound(Absorbing(VOCAB, MASK, Linear(eps=0)), lambda raw, x_t: subs(raw, x_t, MASK), steps)
    x_0, total = MARKOV.sequences, 0.0
    for hidden in masks(LENGTH):
        x_t, count = x_0.masked_fill(hidden, MASK), int(hidden.sum())
        raw = torch.nn.functional.pad(MARKOV.masked(x_t).clamp_min(1e-300).log(), (0, 1))
        for i in range(1, steps + 1):
            t = torch.full((len(x_0), 1), i / steps, dtype=torch.float64)
            chance = (i / steps) ** count * (1 - i / steps) ** (LENGTH - count) / steps
            total += chance * float((MARKOV.p * chain.token_loss(raw, x_0, x_t, t).sum(1)).sum())
    # the last time of the grid is moved to 1 - 1e-4, as published
    assert total == pytest.approx(nats, rel=2e-4)


@pytest.mark.parametrize("block", [None, 2])
def test_a_trained_bound_comes_close_to_the_entropy_and_never_below(block):
    process = Absorbing(VOCAB, MASK, Linear(eps=0))
    family = mdlm(process) if block is None else bd3lm(process, block)
    torch.manual_seed(0)
    net = TransformerConfig(width=32, layers=2, heads=2).build(VOCAB)
    matrices = [p for p in net.parameters() if p.ndim == 2]
    optimizer = Muon([{"params": matrices, "orthogonal": True}], lr=0.02)
    for step in range(120):
        for group in optimizer.param_groups:
            group["lr"] = 0.02 * (1 - step / 120)
        x = MARKOV.sample(128, seed=step)
        loss = family.objective(net, Batch(x, torch.ones_like(x, dtype=torch.bool)), Rng(0, step)).total
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    with torch.no_grad():
        nats = float((MARKOV.p * bound(family.objective, net)).sum())
    assert MARKOV.entropy < nats < MARKOV.entropy + 0.15
