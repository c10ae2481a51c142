"""Invariants that every selector, rule and reader must keep, for random scores with ties, extremes and blanks."""

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_reader import MASK, VOCAB, model

from mezzotint.decode.canvas import infill
from mezzotint.decode.loop import decode
from mezzotint.decode.methods.diffusion_gemma import uniform_of
from mezzotint.decode.methods.klass import KlassRule
from mezzotint.decode.methods.llada21_editing import EditedBlocks
from mezzotint.decode.methods.wino import WinoReader, WinoRule
from mezzotint.decode.plan import Blocks, floored, linear, multiples
from mezzotint.decode.propose import Draw, GumbelOrder, entropy, likeliest, probable
from mezzotint.decode.reader import Reader
from mezzotint.decode.revise import Overwrite
from mezzotint.decode.rule import Unmask
from mezzotint.decode.run import Decoding, generate, lay_out
from mezzotint.decode.samplers.renoise import Canvases, Renoise
from mezzotint.decode.select import (
    Above,
    AtMost,
    EntropyBound,
    Factor,
    Near,
    OnTime,
    Top,
    by_budget,
    leftmost,
    most_confident,
)
from mezzotint.decode.shapers import Ban
from mezzotint.rng import Rng

BAN = Ban(torch.arange(VOCAB) == MASK)
PROMPTS = [[1, 2, 3, 4, 6, 7, 8], [9, 10]]
SELECTORS = [
    most_confident,
    leftmost,
    Top(2),
    Above(0.5),
    Factor(1.0),
    Factor(1.5, lenient=True),
    EntropyBound(0.5),
    EntropyBound(0.5, inclusive=True),
    Near(),
    Near(every=True),
    OnTime(Above(0.5, always=False)),
    AtMost(Above(0.5)),
]
CHANCES = st.lists(st.sampled_from([0.0, 1e-6, 0.2, 0.5, 0.75, 0.9, 1.0, -torch.inf]), min_size=1, max_size=9)


def rows(scores, bits):
    score = torch.tensor([scores])
    return score, torch.tensor([[bool(bits >> i & 1) for i in range(len(scores))]])


@pytest.mark.parametrize("select", SELECTORS, ids=repr)
@given(CHANCES, st.integers(0, 511), st.integers(0, 9))
@settings(max_examples=60, deadline=None)
def test_5_something_open_is_committed_and_nothing_else(select, scores, bits, budget):
    score, open = rows(scores, bits)
    commit = select(score, open, torch.tensor([budget]))
    assert not (commit & ~open).any()
    assert commit.any() == open.any()


@given(CHANCES, st.integers(0, 511), st.integers(0, 9))
@settings(max_examples=60, deadline=None)
def test_a_schedule_that_says_nothing_gets_nothing(scores, bits, budget):
    score, open = rows(scores, bits)
    assert int(by_budget(score, open, torch.tensor([budget])).sum()) == min(budget, int(open.sum()))


@given(st.lists(st.floats(0, 1, width=32), min_size=1, max_size=9), st.sampled_from([0.0, 0.3, 1.0, 2.0]))
@settings(max_examples=80, deadline=None)
def test_3_the_factor_takes_as_many_as_its_inequality_allows(scores, f):
    score, open = rows(scores, 511)
    n = int(Factor(f)(score, open, torch.tensor([0])).sum())
    ordered = sorted(score[0].tolist(), reverse=True)
    assert n == 1 or (n + 1) * (1 - ordered[n - 1]) < f + 1e-6
    assert n == len(ordered) or (n + 2) * (1 - ordered[n]) >= f - 1e-6


@given(st.lists(st.floats(0.125, 3, width=32), min_size=1, max_size=9))
@settings(max_examples=60, deadline=None)
def test_4_no_entropy_allowed_is_one_column_and_any_is_all(nats):
    score, open = rows([-x for x in nats], 511)
    one = torch.tensor([1])
    assert int(EntropyBound(0.0)(score, open, one).sum()) == 1
    assert EntropyBound(torch.inf)(score, open, one).all()
    assert (EntropyBound(1.0)(score, open, one) | ~EntropyBound(1.0, inclusive=True)(score, open, one)).all()


@given(st.integers(1, 40), st.integers(1, 60))
@settings(max_examples=60, deadline=None)
def test_1_schedules_add_up(total, steps):
    for budget in (linear, floored):
        left, start = torch.tensor([total]), torch.tensor([total])
        for k in range(steps):
            left = left - budget(start, left, k, steps)
        assert int(left) == 0


def test_2_a_threshold_that_nothing_passes_is_one_column_per_pass():
    net = model()
    runs = [
        generate(net, PROMPTS, 12, Decoding(Unmask(likeliest, select, shapers=(BAN,)), Blocks(4), halt=False))
        for select in (Above(1.0), Top(1))
    ]
    assert torch.equal(runs[0].canvas.tokens, runs[1].canvas.tokens)
    assert runs[0].passes == runs[1].passes == 12


def test_29_any_entropy_allowed_keeps_every_draw_and_what_is_written_is_the_first_choice():
    raw = torch.randn(2, 6, VOCAB, generator=torch.Generator().manual_seed(4))
    drawn = torch.randint(0, VOCAB, (2, 6), generator=torch.Generator().manual_seed(5))
    rule = Renoise(uniform_of(VOCAB), EntropyBound(torch.inf), lambda logits, rng: (drawn, probable(logits, drawn)))
    canvas = infill([[None] * 6] * 2, uniform_of(VOCAB))
    plan = Canvases(6, steps=2)(canvas)
    once = rule(raw, canvas, next(plan), Rng(0))
    assert torch.equal(once.tokens, drawn)
    assert once.open.all()
    over = rule(raw, once, plan.send(once), Rng(1))
    assert torch.equal(over.tokens, raw.argmax(-1))
    assert not over.open.any()


def test_leaps_without_anchors_are_the_selector_they_leap_from():
    score, open = torch.rand(5, 16, generator=torch.Generator().manual_seed(2)), torch.ones(5, 16).bool()
    budget = torch.full((5,), 3)
    assert torch.equal(Near(anchor=1.1)(score, open, budget), most_confident(score, open, budget))
    leapt = Near(anchor=0.0, near=0.0, reach=1)(score, open, torch.ones_like(budget))
    assert (leapt.sum(-1) <= 3).all()
    assert (leapt.sum(-1) >= 2).all()


def test_15_the_canvas_sees_no_shadow():
    # one layer: in deeper ones the other columns have seen the column that its shadow does not
    net = model(layers=1)
    canvas, valid = lay_out(net, PROMPTS, 8)
    plain, shadow = Reader(net.network, valid=valid), WinoReader(net.network, MASK, valid)
    step = next(Blocks(4)(canvas))
    main, verified = shadow(canvas, step).chunk(2, 1)
    torch.testing.assert_close(main, plain(canvas, step), atol=1e-5, rtol=1e-4)
    changed = replace(canvas, tokens=canvas.tokens.scatter(-1, step.window.columns()[:, 1:2], 3))
    moved = shadow(changed, step).chunk(2, 1)[1]
    torch.testing.assert_close(moved[:, 1], verified[:, 1], atol=1e-5, rtol=1e-4)
    assert (moved[:, 0] - verified[:, 0]).abs().max() > 1e-4


def test_wino_reopens_and_still_finishes():
    net = model()
    canvas, valid = lay_out(net, PROMPTS, 16)
    rule = WinoRule(Unmask(likeliest, shapers=(), prior=net.prior), threshold=0.1, threshold_back=0.8)
    path = [canvas, *decode(canvas, WinoReader(net.network, MASK, valid), rule, Blocks(16, steps=16))]
    left = [int(each.open.sum()) for each in path]
    assert left[-1] == 0
    assert all(after < before for before, after in pairwise(left))
    assert any((b.open & ~a.open).any() for a, b in pairwise(path))


def test_16_editing_that_nothing_passes_is_threshold_decoding_and_one_pass_more():
    net = model(block=4)
    plain = Unmask(likeliest, Above(0.3), shapers=(BAN,))
    once = generate(net, [PROMPTS[0]], 9, Decoding(plain, Blocks(4, place=multiples), halt=False))
    edited = Decoding(replace(plain, edit=Overwrite(1.01)), EditedBlocks(4, place=multiples), halt=False)
    again = generate(net, [PROMPTS[0]], 9, edited)
    assert torch.equal(once.canvas.tokens, again.canvas.tokens)
    assert again.passes == once.passes + 3


@pytest.mark.parametrize("posts", [0, 3])
def test_editing_ends_and_rows_do_not_wait_for_each_other(posts):
    net = model(block=4)
    rule = Unmask(likeliest, Above(0.3), shapers=(BAN,), edit=Overwrite(0.0))
    decoding = Decoding(rule, EditedBlocks(4, posts, place=multiples), halt=False)
    together = generate(net, PROMPTS, 9, decoding)
    assert together.texts == [generate(net, [prompt], 9, decoding).texts[0] for prompt in PROMPTS]
    assert not together.canvas.open.any()
    for row, fixed, prompt in zip(together.canvas.tokens, together.canvas.fixed, PROMPTS, strict=True):
        assert row[fixed].tolist()[-len(prompt) :] == prompt


def test_klass_waits_for_predictions_to_stand_still():
    raw = torch.randn(1, 6, VOCAB, generator=torch.Generator().manual_seed(1)) * 4
    rule = KlassRule(Unmask(likeliest), tau=0.0, eps=1e-6, history=2)
    left = [
        int(canvas.open.sum())
        for canvas in decode(infill([[None] * 6], model().prior), lambda canvas, step: raw, rule, Blocks(6))
    ]
    # two steps that did not move are two after the first
    assert left == [5, 4, 0]


def test_21_left_padding_changes_nothing():
    net = model()
    decoding = Decoding(Unmask(likeliest, Above(0.4), shapers=(BAN,)), Blocks(4), halt=False)
    together = generate(net, [*PROMPTS, []], 10, decoding)
    assert together.texts == [generate(net, [prompt], 10, decoding).texts[0] for prompt in (*PROMPTS, [])]
    assert together.valid is not None


def test_the_order_of_columns_can_be_drawn():
    raw = torch.zeros(4000, 3, 2)
    raw[:, :, 0] = torch.tensor([0.0, 1.0, 2.0])
    share = raw[0].softmax(-1).amax(-1)
    _, score = GumbelOrder(likeliest, 0.2)(raw, Rng(3))
    first = torch.bincount(score.argmax(-1), minlength=3) / len(raw)
    torch.testing.assert_close(first, (share / 0.2).softmax(-1), atol=0.03, rtol=0)
    assert torch.equal(GumbelOrder(entropy, 0.0)(raw, Rng(3))[1], entropy(raw, Rng(3))[1])


@pytest.mark.parametrize("precise", [False, True])
@pytest.mark.parametrize("temperature", [0.5, 1.0])
def test_23_draws_have_the_tempered_distribution(temperature, precise):
    raw = torch.tensor([2.0, 1.0, 0.0, -1.0, -3.0]).expand(20000, 1, 5)
    tokens, _ = Draw(temperature, precise=precise)(raw, Rng(11))
    seen = torch.bincount(tokens[:, 0], minlength=5)
    expected = (raw[0, 0] / temperature).softmax(-1) * len(raw)
    # chi-squared with four degrees of freedom: 18.5 is the 0.999 quantile
    assert ((seen - expected).square() / expected).sum() < 18.5
