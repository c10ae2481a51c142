"""DiffusionBERT by brute force: survivals, bounds that stay above -log p, samplers that draw the source."""

import math
import sys
from pathlib import Path

import pytest
import torch

from mezzotint.batch import Batch
from mezzotint.decode.canvas import write
from mezzotint.decode.loop import decode
from mezzotint.decode.plan import Blocks
from mezzotint.errors import VocabularyError
from mezzotint.families.d3pm import D3PM
from mezzotint.families.diffusion_bert import DiffusionBERT, Exact, PublishedLoss, diffusion_bert
from mezzotint.processes.spindle import Frequency, Information, Spindle, occurrences, reveal
from mezzotint.rng import Rng

sys.path.insert(0, str(Path(__file__).parents[1] / "oracles"))
from sources import MARKOV, PAIR, masks
from training import Tiny, bound, distances, sequences, trained

COUNTS = torch.tensor([900, 60, 3, 0])
VOCAB, MASK = 4, 3
EASES = {
    "code": Frequency(COUNTS),
    "paper": Information(COUNTS),
    "fixed": Frequency(COUNTS, fixed=0.5),
}


@pytest.fixture(params=EASES)
def ease(request):
    return EASES[request.param]


def grid(count=201):
    return torch.linspace(0, 1, count, dtype=torch.float64)[:, None]


def test_survivals_fall_from_one_to_zero_for_every_token(ease):
    process = Spindle(VOCAB, MASK, ease)
    x_0 = torch.tensor([[0, 1, 2, 0, 0, 2]]).expand(201, -1)
    alpha = process.alpha(grid(), x_0)
    assert bool((alpha.diff(dim=0) <= 0).all())
    torch.testing.assert_close(alpha[0], torch.ones(6, dtype=torch.float64))
    torch.testing.assert_close(alpha[-1], torch.zeros(6, dtype=torch.float64), atol=1e-12, rtol=0)


def test_rare_tokens_go_first(ease):
    alpha = Spindle(VOCAB, MASK, ease).alpha(torch.tensor([[0.5]]), torch.tensor([[0, 1, 2]]))[0]
    assert alpha[0] > alpha[1] > alpha[2]


def test_the_papers_form_on_its_known_numbers():
    p = torch.tensor([-5.0, -2.0, -1.0, -0.5]).double().exp()
    ease = Information(torch.ones(4))
    ease.value.copy_(-p.log())
    tokens = torch.arange(4)[None]
    torch.testing.assert_close(-ease(tokens)[0], torch.tensor([0.575, -0.0625, -1.125, -3.25], dtype=torch.float64))
    alpha = Spindle(4, 3, ease, strength=0.3, ceiling=2.0).alpha(torch.tensor([[0.5]]), tokens)[0]
    torch.testing.assert_close(alpha, torch.tensor([0.3275, 0.51875, 0.8375, 1.0 + 0.475], dtype=torch.float64))


def test_what_a_sequence_keeps_on_average_falls_evenly():
    """Summed information (paper) or tokens (code) of a sequence; before clipping, so without a ceiling."""
    tokens, t = torch.tensor([[0, 1, 2, 0, 0, 2]]).expand(41, -1), grid(41)[5:]
    tokens = tokens[5:]
    code, paper = (
        Spindle(VOCAB, MASK, EASES[name], strength=0.1, ceiling=9.0).alpha(t, tokens) for name in ("code", "paper")
    )
    torch.testing.assert_close(code.mean(-1, keepdim=True), 1 - t)
    h = EASES["paper"].value[tokens]
    torch.testing.assert_close((h * paper).sum(-1) / h.sum(-1), 1 - t[:, 0])


def test_the_exact_posterior_averages_to_the_forward_process(ease):
    process, x_0 = Spindle(VOCAB, MASK, ease), torch.tensor([[0, 1, 2]])
    clean = torch.nn.functional.one_hot(x_0, VOCAB).double()
    for t, s in ((0.9, 0.4), (1.0, 0.5), (0.3, 0.0)):
        a_t, a_s = (process.alpha(torch.tensor([[u]]), x_0) for u in (t, s))
        q_t = process.forward_to(clean, a_t)
        rows = [process.posterior(clean, torch.full_like(x_0, x), a_t, a_s) for x in range(VOCAB)]
        back = sum(q_t[..., x, None] * row for x, row in enumerate(rows))
        torch.testing.assert_close(back, process.forward_to(clean, a_s))
        assert all(torch.allclose(row.sum(-1), torch.ones(1, 3, dtype=torch.float64)) for row in rows)


def test_noise_masks_each_token_at_its_own_rate(ease):
    process = Spindle(VOCAB, MASK, ease)
    x_0, t = torch.tensor([[0, 1, 2, 0]]).expand(20_000, -1), torch.full((20_000, 1), 0.4)
    kept = (process.corrupt(x_0, t, Rng(0)) != MASK).double().mean(0)
    torch.testing.assert_close(kept, process.alpha(t[:1], x_0[:1])[0], atol=0.015, rtol=0)


def test_without_strength_it_is_the_absorbing_chain():
    """Loss, bound and posterior step, at every step and for any answer of the network."""
    steps, generator = 8, torch.Generator().manual_seed(0)
    ours, d3pm = (
        DiffusionBERT(counts=tuple(COUNTS.tolist()), strength=0, steps=steps, weight=0.3).build(VOCAB, MASK),
        D3PM(steps=steps, weight=0.3).build(VOCAB, MASK),
    )
    x_0 = MARKOV.sequences
    raw = torch.randn(81, 4, VOCAB, dtype=torch.float64, generator=generator)
    for i in range(1, steps + 1):
        x_t = x_0.masked_fill(torch.rand(81, 4, generator=generator) < i / steps, MASK)
        t = torch.full((81, 1), i / steps, dtype=torch.float64)
        for name in ("objective", "bound"):
            one, two = (getattr(family, name).token_loss(raw, x_0, x_t, t) for family in (ours, d3pm))
            torch.testing.assert_close(one, two, rtol=1e-6, atol=1e-9, msg=lambda m, n=name, i=i: f"{n} at {i}: {m}")


def exact(process, source, x_t, t):
    """Log p(x_0 | x_t) of each column by Bayes' rule: what is masked says that it does not survive long."""
    alpha = process.alpha(torch.tensor([[t]]), source.sequences)  # [S, L]
    here = torch.where(
        (x_t == MASK)[:, None], (1 - alpha)[None], alpha[None] * (x_t[:, None] == source.sequences[None])
    )
    weight = source.p * here.prod(-1)
    hits = torch.nn.functional.one_hot(source.sequences, VOCAB).double()
    p = torch.einsum("bs,slv->blv", weight, hits)
    return (p / p.sum(-1, keepdim=True).clamp_min(1e-300)).clamp_min(1e-300).log()


def bounds(ease, steps):
    """Nats of each pair: the bound summed over all masks and times."""
    process, x_0 = Spindle(VOCAB, MASK, ease), PAIR.sequences
    family = diffusion_bert(process, steps, 0.0, Exact(process, MASK), never=MASK)
    total = process.missed(x_0).sum(-1)
    for i in range(1, steps + 1):
        t = torch.full((len(x_0), 1), i / steps, dtype=torch.float64)
        alpha = process.alpha(t, x_0)
        for hidden in masks(PAIR.length):
            chance = torch.where(hidden, 1 - alpha, alpha).prod(-1)
            x_t = x_0.masked_fill(hidden, MASK)
            nats = family.bound.token_loss(exact(process, PAIR, x_t, i / steps), x_0, x_t, t).sum(-1)
            total = total + chance * nats / steps
    return total


def test_the_bound_stays_above_the_entropy_and_nears_it_with_more_steps():
    own = Frequency(COUNTS, fixed=0.6)
    few, many = ((PAIR.p * bounds(own, steps)).sum() - PAIR.entropy for steps in (8, 64))
    assert 0 < many < few / 4
    for ease in (EASES["code"], EASES["paper"]):
        assert (PAIR.p * bounds(ease, 32)).sum() > PAIR.entropy


def test_the_exact_sampler_draws_pairs_like_the_source():
    process = Spindle(VOCAB, MASK, Frequency(COUNTS, fixed=0.6))
    family = diffusion_bert(process, 64, 0.0, Exact(process, MASK), never=MASK)
    counts = sampled(family, process)
    want = 12_000 * PAIR.p
    assert float(((counts - want) ** 2 / want).sum()) < 26.1, counts


def test_the_published_sampler_is_near_the_source_and_not_equal_to_it():
    """Its steps are those of a token of average ease, and the survival before them that of the likeliest token."""
    process = Spindle(VOCAB, MASK, EASES["code"])
    step = PublishedLoss(process, MASK, greedy_end=False)
    counts = sampled(diffusion_bert(process, 64, 0.0, step, never=MASK), process)
    want = 12_000 * PAIR.p
    assert float((counts - want).abs().sum()) / 2 < 0.05 * 12_000
    assert float(((counts - want) ** 2 / want).sum()) > 26.1, counts


def sampled(family, process):
    rows = 12_000
    canvas = write([[]] * rows, 2, family.process.prior)
    *_, last = decode(
        canvas,
        lambda canvas, step: exact(process, PAIR, canvas.tokens, float(step.t.flatten()[0])),
        family.rule,
        Blocks(2, 64),
    )
    return torch.bincount(last.tokens[:, 0] * 3 + last.tokens[:, 1], minlength=9).double()


def test_a_batch_trains_and_is_bounded():
    family = DiffusionBERT(counts=tuple(COUNTS.tolist()), steps=16).build(VOCAB, MASK)
    tokens = torch.randint(0, 3, (400, 6), generator=torch.Generator().manual_seed(3))
    batch = Batch(tokens, torch.ones_like(tokens, dtype=torch.bool))
    weight = torch.zeros(VOCAB, requires_grad=True)
    loss = family.objective(lambda inputs, t: weight.expand(*inputs.x.shape, VOCAB), batch, Rng(0))
    loss.total.backward()
    assert weight.grad is not None
    assert bool(weight.grad.isfinite().all())
    flat = family.bound(lambda inputs, t: torch.zeros(*inputs.x.shape, VOCAB), batch, Rng(0))
    assert float(flat.total) > math.log(3) - 0.05


def test_after_training_the_bound_stays_above_the_entropy_and_more_steps_write_better_samples():
    family = DiffusionBERT(counts=tuple(COUNTS.tolist()), steps=64, weight=1.0).build(VOCAB, MASK)
    net = trained(Tiny(VOCAB, PAIR.length), family.objective, lambda step: sequences(PAIR, 256, step))
    nats, error = bound(net, family.bound, sequences(PAIR, 16384, 10**6))
    assert PAIR.entropy - 3 * error < nats < PAIR.entropy + 0.15
    few, more, many = distances(net, family, PAIR, (1, 4, 16), 20_000)
    assert few > more > many
    assert many < few / 2


def test_frequencies_are_counted_from_data():
    texts = [torch.tensor([[0, 1], [1, 2]]), torch.tensor([2, 2])]
    assert occurrences(texts, 4).tolist() == [1, 2, 3, 0]
    with pytest.raises(VocabularyError, match="frequencies of 4"):
        Spindle(5, 4, Frequency(COUNTS))


def test_a_masked_token_is_revealed_with_the_share_it_lost():
    torch.testing.assert_close(reveal(torch.tensor(0.4), torch.tensor(0.7)), torch.tensor(0.5))
