"""A shaper may only take probability away, and must leave every column its best token."""

import pytest
import torch

from mezzotint.decode.canvas import Span, Step, write
from mezzotint.decode.shapers import Ban, Repetition, Temperature, TopK, TopP
from mezzotint.processes.absorbing import Absorbing
from mezzotint.schedules import Linear

PRIOR = Absorbing(12, 11, Linear()).prior
CANVAS = write([[1, 2], [3, 4]], 3, PRIOR)
TWO = torch.tensor([2, 2])
STEP = Step(Span(TWO, 3), TWO, 0, torch.ones(2, 1), torch.zeros(2, 1))
LOGITS = torch.randn(2, 3, 12, generator=torch.Generator().manual_seed(0))
BANNED = torch.arange(12) == 11


@pytest.mark.parametrize(
    "shaper", [Temperature(0.3), Temperature(0.0), TopP(1e-9), TopP(0.5), TopK(0), TopK(3)], ids=repr
)
def test_the_best_token_stays_the_best(shaper):
    shaped = shaper(LOGITS, CANVAS, STEP)
    assert torch.equal(shaped.argmax(-1), LOGITS.argmax(-1))
    assert not shaped.softmax(-1).isnan().any()


@pytest.mark.parametrize("p", [0.2, 0.7, 0.95])
def test_top_p_keeps_the_fewest_tokens_that_reach_p(p):
    kept = TopP(p)(LOGITS, CANVAS, STEP).isfinite()
    chance = LOGITS.softmax(-1)
    assert (chance.where(kept, 0).sum(-1) >= p).all()
    least = chance.where(kept, 2).amin(-1)
    assert (chance.where(kept, 0).sum(-1) - least < p).all()


def test_top_p_of_one_changes_nothing():
    assert torch.equal(TopP(1.0)(LOGITS, CANVAS, STEP), LOGITS)


def test_top_k_keeps_exactly_k_also_among_ties():
    assert (TopK(4)(torch.zeros(2, 3, 12), CANVAS, STEP).isfinite().sum(-1) == 4).all()


def test_every_number_may_differ_between_requests():
    numbers = torch.tensor([[0.5], [2.0]])
    for kind in (Temperature, Repetition):
        mixed = kind(numbers)(LOGITS, CANVAS, STEP)
        torch.testing.assert_close(mixed[0], kind(0.5)(LOGITS, CANVAS, STEP)[0])
        torch.testing.assert_close(mixed[1], kind(2.0)(LOGITS, CANVAS, STEP)[1])
    torch.testing.assert_close(
        TopP(torch.tensor([[0.3], [0.9]]))(LOGITS, CANVAS, STEP)[1], TopP(0.9)(LOGITS, CANVAS, STEP)[1]
    )
    torch.testing.assert_close(
        TopK(torch.tensor([[1], [5]]))(LOGITS, CANVAS, STEP)[1], TopK(5)(LOGITS, CANVAS, STEP)[1]
    )


def test_banned_tokens_have_no_probability():
    shaped = Ban(BANNED)(LOGITS, CANVAS, STEP)
    assert (shaped[..., 11] == -torch.inf).all()
    assert torch.equal(shaped[..., :11], LOGITS[..., :11])
    per_row = Ban(torch.stack([BANNED, ~BANNED]))(LOGITS, CANVAS, STEP)
    assert (per_row[1, :, :11] == -torch.inf).all()


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_a_ban_within_a_context_leaves_the_logits_as_they_were(kind):
    logits = LOGITS.to(kind)
    before = logits.clone()
    with Ban(BANNED).within(logits) as banned:
        assert banned.data_ptr() == logits.data_ptr()
        assert torch.equal(banned, Ban(BANNED).filtered(before))
    assert torch.equal(logits, before)
    with pytest.raises(ZeroDivisionError), Ban(BANNED).within(logits):
        1 / 0  # noqa: B018 - whatever a rule stumbles over
    assert torch.equal(logits, before)


def of_another():
    with torch.inference_mode():
        return LOGITS.clone()


@pytest.mark.parametrize(
    "logits",
    [LOGITS.clone().requires_grad_(), LOGITS[0, 0].expand(2, 3, 12), of_another()],
    ids=["with a gradient", "repeated", "of inference mode"],
)
def test_a_ban_copies_logits_that_it_may_not_write_to(logits):
    before = logits.detach().clone()
    with Ban(BANNED).within(logits) as banned:
        assert torch.equal(banned, Ban(BANNED).filtered(before))
        assert torch.equal(logits, before)


def test_a_ban_by_request_within_a_context():
    lists = torch.stack([BANNED, ~BANNED])
    with Ban(lists).within(LOGITS) as banned:
        assert torch.equal(banned, Ban(lists).filtered(LOGITS))


def test_repetition_lowers_what_was_written_but_not_the_prompt():
    canvas = write([[1, 2], [3, 4]], 3, PRIOR)
    canvas.tokens[0, 2], canvas.open[0, 2] = 5, False
    changed = Repetition(1.5)(LOGITS, canvas, STEP) != LOGITS
    assert changed[0].any(0).nonzero().flatten().tolist() == [5]
    assert not changed[1].any()
    assert (Repetition(1.5)(LOGITS, canvas, STEP)[0, :, 5] < LOGITS[0, :, 5]).all()
