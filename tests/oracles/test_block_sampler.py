"""Block diffusion's sampler against a source whose every sequence can be listed, and the network it trains."""

import pytest
import torch
from sources import MARKOV
from strings import chi_square, last

from mezzotint.batch import Batch
from mezzotint.decode.canvas import infill
from mezzotint.decode.loop import decode
from mezzotint.denoisers.networks.small_transformer import TransformerConfig
from mezzotint.families.ar import AR
from mezzotint.families.bd3lm import BD3LM
from mezzotint.layouts import BlockCausal
from mezzotint.rng import Rng
from mezzotint.schedules import Linear
from mezzotint.train.muon import Muon

VOCAB, MASK, LENGTH, BLOCK, ROWS = MARKOV.real + 1, MARKOV.mask_id, MARKOV.length, 2, 20_000
STATES = torch.cartesian_prod(*[torch.arange(VOCAB)] * LENGTH)
PLACES = VOCAB ** torch.arange(LENGTH - 1, -1, -1)


def drawn(family, table, steps):
    """How often each sequence is written by a network whose answers to all states are Float[states, LENGTH, VOCAB]."""

    def denoise(canvas, step):
        raw = table[(canvas.tokens * PLACES).sum(-1)]
        return raw.gather(1, step.window.columns()[..., None].expand(-1, -1, VOCAB))

    canvas = infill([[None] * LENGTH] * ROWS, family.process.prior)
    tokens = last(decode(canvas, denoise, family.rule, family.form.plan(canvas, steps * LENGTH // BLOCK))).tokens
    assert bool((tokens < MASK).all())
    return torch.bincount(MARKOV.index(tokens), minlength=len(MARKOV.p)).double()


def exact():
    """What is masked behind a block says nothing, so the whole canvas may be looked at."""
    log = MARKOV.masked(STATES).clamp_min(1e-300).log()
    return torch.nn.functional.pad(log, (0, 1)).nan_to_num(0.0)


def far(counts):
    return float((counts / ROWS - MARKOV.p).abs().sum()) / 2


def test_one_column_at_a_time_is_exact_and_few_steps_write_the_known_mixture():
    family = BD3LM(block=BLOCK, sampler="first-hitting").build(VOCAB, MASK)
    assert chi_square(drawn(family, exact(), 1), MARKOV.p) < 4
    # in one step the columns of a block are drawn by themselves, given the blocks before
    family = BD3LM(block=BLOCK).build(VOCAB, MASK)
    p = torch.ones(len(MARKOV.p), dtype=torch.float64)
    for start in range(0, LENGTH, BLOCK):
        seen = torch.full_like(MARKOV.sequences, MASK)
        seen[:, :start] = MARKOV.sequences[:, :start]
        here = slice(start, start + BLOCK)
        p = p * MARKOV.masked(seen)[:, here].gather(-1, MARKOV.sequences[:, here, None])[..., 0].prod(-1)
    assert float(p.sum()) == pytest.approx(1)
    assert chi_square(drawn(family, exact(), 1), p) < 4


def trained(family, steps=150):
    torch.manual_seed(0)
    net = TransformerConfig(width=32, layers=2, heads=2).build(VOCAB)
    matrices = [p for p in net.parameters() if p.ndim == 2]
    optimizer = Muon([{"params": matrices, "orthogonal": True}], lr=0.02)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = 0.02 * (1 - step / steps)
        x = MARKOV.sample(128, seed=step)
        family.objective(net, Batch(x, torch.ones_like(x, dtype=torch.bool)), Rng(0, step)).total.backward()
        optimizer.step()
        optimizer.zero_grad()
    return net.eval()


def test_more_steps_write_better_samples_with_a_trained_network():
    family = BD3LM(schedule=Linear(eps=0), block=BLOCK).build(VOCAB, MASK)
    net = trained(family)
    with torch.no_grad():
        table = net(BlockCausal(BLOCK).arrange(STATES, STATES))
    found = [far(drawn(family, table, steps)) for steps in (1, 2, 16)]
    assert found[0] > found[1] > found[2]
    assert found[2] < found[0] / 2


def test_the_autoregressive_loss_after_training_lies_above_the_entropy():
    family, x = AR().build(VOCAB, MASK), MARKOV.sequences
    net = trained(family)
    with torch.no_grad():
        nats = family.objective(net, Batch(x, torch.ones_like(x, dtype=torch.bool)), Rng(0)).per_token.double().sum(-1)
    assert float((-nats).exp().sum()) == pytest.approx(1, abs=1e-5)
    assert MARKOV.entropy < float((MARKOV.p * nats).sum()) < MARKOV.entropy + 0.1
