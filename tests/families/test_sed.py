"""SED: fixed embeddings, spans as conditions, estimates read again, guidance."""

import pytest
import torch
import torch.nn.functional as F

from mezzotint.batch import Batch
from mezzotint.decode.loop import decode
from mezzotint.decode.plan import Blocks
from mezzotint.decode.samplers.embedding_canvas import begin, reading, unread
from mezzotint.denoisers.networks.embedding_network import EmbeddingNetworkConfig
from mezzotint.denoisers.networks.small_transformer import TransformerConfig
from mezzotint.families.sed import SED, sed, wrapped
from mezzotint.objectives.embedding_denoising import Spans
from mezzotint.rng import Rng

VOCAB, LENGTH = 6, 8
CARD = SED(width=8, steps=60, first=5e-3, spread=0.05)


def batch(rows=64, seed=0):
    """Counting upwards modulo the vocabulary, from anywhere."""
    first = torch.randint(VOCAB, (rows, 1), generator=torch.Generator().manual_seed(seed))
    tokens = (first + torch.arange(LENGTH)) % VOCAB
    return Batch(tokens, torch.ones_like(tokens, dtype=torch.bool))


def network(process, **guidance):
    torch.manual_seed(0)
    trunk = TransformerConfig(width=32, layers=2, heads=2, timed=True)
    return wrapped(EmbeddingNetworkConfig(trunk=trunk, conditions=True).build(process), process, **guidance)


def test_spans_are_uniform_in_number_and_half_given():
    tokens = torch.zeros(20_000, 32, dtype=torch.long)
    given = Spans(5)(Batch(tokens, tokens == 0), Rng(0))
    some = given.any(-1)
    assert float((~some).float().mean()) == pytest.approx(0.2, abs=0.01)
    assert float(given[some].float().mean()) == pytest.approx(0.5, abs=0.01)
    changes = (given.diff(dim=-1) != 0).sum(-1)
    counts = torch.bincount(changes, minlength=5).float() / len(tokens)
    torch.testing.assert_close(counts, torch.full((5,), 0.2), rtol=0, atol=0.012)
    assert float(given[:, 0][some].float().mean()) == pytest.approx(0.5, abs=0.02)


def test_given_columns_have_no_loss_and_only_the_readout_learns_from_rounding():
    family = CARD.build(VOCAB + 1, VOCAB)
    net = network(family.process)
    loss = family.objective(net, batch(), Rng(0))
    given = Spans(5)(batch(), Rng(0).fork(0x59A25))
    assert not loss.per_token[given].any()
    assert bool((loss.per_token[~given] > 0).all())
    assert int(loss.count) == int((~given).sum())
    loss.total.backward()
    assert family.process.table.grad is None
    assert family.process.head.weight.grad.abs().sum() > 0


def test_embeddings_may_be_those_of_another_model():
    table = torch.randn(VOCAB, 8, generator=torch.Generator().manual_seed(3))
    process = CARD.on(table)
    torch.testing.assert_close(F.cosine_similarity(process.table, table), torch.ones(VOCAB))
    torch.testing.assert_close(process.table.norm(dim=-1), torch.full((VOCAB,), 8**0.5))
    torch.testing.assert_close(process.head.weight, process.table)
    assert not process.table.requires_grad


@pytest.mark.parametrize("scale", [0.0, 1.0, 2.0])
def test_guidance_is_between_the_conditional_and_the_free_answer(scale):
    family = CARD.build(VOCAB + 1, VOCAB)
    canvas = unread(begin([[0, 1, 2, *[None] * 5]], family.process))
    step = next(Blocks(LENGTH, 4)(canvas))
    nets = [network(family.process, scale=s).eval() for s in (0.0, 1.0, scale)]
    with torch.no_grad():
        free, held, guided = (reading(net)(canvas, step) for net in nets)
    torch.testing.assert_close(guided, free + scale * (held - free))
    assert not torch.allclose(free, held)


def correct(net, family, rows):
    with torch.no_grad():
        canvas = unread(begin(rows, family.process))
        *_, last = decode(canvas, reading(net), family.rule, Blocks(LENGTH, 30))
    following = (last.tokens[:, 1:] - last.tokens[:, :-1]) % VOCAB == 1
    return float(following.float().mean()), last.tokens


def test_a_small_model_counts_and_fills_in():
    process = CARD.on(torch.randn(VOCAB, 8, generator=torch.Generator().manual_seed(1)))
    family = sed(process, CARD.steps, Spans(3))
    net = network(process).train()
    optimizer = torch.optim.AdamW([p for p in net.parameters() if p.requires_grad], lr=4e-3)
    for step in range(350):
        for group in optimizer.param_groups:
            group["lr"] = 4e-3 * min(1.0, (step + 1) / 30) * (1 - step / 360)
        optimizer.zero_grad()
        family.objective(net, batch(seed=step), Rng(1, step)).total.backward()
        optimizer.step()
    net.eval()
    assert correct(net, family, [[None] * LENGTH] * 64)[0] > 0.9
    share, tokens = correct(net, family, [[None, None, 3, None, None, None, 1, None]] * 64)
    assert share > 0.9
    assert (tokens[:, 2] == 3).all()
    assert (tokens[:, 6] == 1).all()
