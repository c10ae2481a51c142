"""Draws must follow the softmax exactly, scores must be the quantities they are named after."""

import pytest
import torch

from mezzotint.decode.propose import (
    Draw,
    RandomOrder,
    entropy,
    likeliest,
    margin,
    margin_of,
    negative_entropy,
    probable,
)
from mezzotint.rng import Rng

LOGITS = torch.tensor([1.5, 0.0, -0.7, 0.9, -2.0, -torch.inf])


def chi_square(counts: torch.Tensor, p: torch.Tensor) -> float:
    expected = p * counts.sum()
    return float(((counts - expected) ** 2 / expected)[p > 0].sum())


def repeat(logits: torch.Tensor, rows: int, columns: int) -> torch.Tensor:
    return logits.expand(rows, columns, -1)


@pytest.mark.parametrize("temperature", [0.5, 1.0])
@pytest.mark.parametrize("precise", [False, True])
def test_draws_follow_the_tempered_softmax(temperature, precise):
    tokens, _ = Draw(temperature, precise=precise)(repeat(LOGITS, 500, 40), Rng(7))
    counts = tokens.flatten().bincount(minlength=6).double()
    # 4 degrees of freedom: above 18.5 once in a thousand
    assert chi_square(counts, (LOGITS.double() / temperature).softmax(-1)) < 18.5
    assert counts[5] == 0


def test_a_draw_depends_on_seed_and_step_and_on_nothing_else():
    logits = torch.randn(3, 5, 11, generator=torch.Generator().manual_seed(0))
    rng = Rng(torch.tensor([4, 5, 6]), torch.tensor([1, 2, 3]))
    together, _ = Draw()(logits, rng)
    alone, _ = Draw()(logits[1:2], Rng(torch.tensor([5]), torch.tensor([2])))
    assert torch.equal(together[1:2], alone)
    assert not torch.equal(Draw()(repeat(LOGITS, 3, 50), rng)[0], Draw()(repeat(LOGITS, 3, 50), rng.at(9))[0])


def test_temperature_zero_is_the_argmax_also_for_one_request_of_many():
    logits = torch.randn(2, 200, 11, generator=torch.Generator().manual_seed(1))
    tokens, score = Draw(torch.tensor([[0.0], [1.0]]))(logits, Rng(0))
    assert torch.equal(tokens[0], logits[0].argmax(-1))
    assert not torch.equal(tokens[1], logits[1].argmax(-1))
    torch.testing.assert_close(score[0], logits[0].softmax(-1).amax(-1))


def test_scores_are_probability_margin_and_entropy():
    logits = torch.randn(2, 3, 7, generator=torch.Generator().manual_seed(2))
    logits[0, 0, 3] = -torch.inf
    p = logits.softmax(-1)
    first, second = p.topk(2).values.unbind(-1)
    nats = -(p * p.clamp_min(1e-30).log()).sum(-1)
    for propose, expected in ((likeliest, first), (margin, first - second), (entropy, -nats)):
        tokens, score = propose(logits, Rng(0))
        assert torch.equal(tokens, p.argmax(-1))
        torch.testing.assert_close(score, expected)
    tokens = torch.randint(0, 7, (2, 3), generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(probable(logits, tokens), p.gather(-1, tokens[..., None])[..., 0])
    torch.testing.assert_close(Draw(score=negative_entropy)(logits, Rng(0))[1], -nats)
    torch.testing.assert_close(Draw(score=margin_of)(logits, Rng(0))[1], first - second)


def test_scattered_scores_are_uniform_and_independent_of_the_draw():
    tokens, score = RandomOrder(Draw())(repeat(LOGITS, 200, 50), Rng(3))
    assert torch.equal(tokens, Draw()(repeat(LOGITS, 200, 50), Rng(3))[0])
    counts = (score.flatten() * 10).long().bincount(minlength=10).double()
    # 9 degrees of freedom: above 27.9 once in a thousand
    assert chi_square(counts, torch.full((10,), 0.1, dtype=torch.float64)) < 27.9
    for token in range(4):
        torch.testing.assert_close(score[tokens == token].mean().item(), 0.5, atol=0.03, rtol=0)


def test_large_logits_do_not_overflow():
    logits = torch.tensor([[[1e4, 9.9e3, -1e4]]])
    for propose in (likeliest, margin, entropy, Draw(0.7), Draw(0.7, precise=True)):
        tokens, score = propose(logits, Rng(0))
        assert tokens.item() == 0
        assert score.isfinite().all()
