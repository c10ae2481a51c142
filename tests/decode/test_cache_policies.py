"""A cache equals no cache where theory says so; everywhere it fills the canvas and keeps rows apart."""

import pytest
import torch
from tiny_reader import MASK, model

from mezzotint.decode.caches.policies import Delayed, Dual, FinishedBlocks, Prefix, Sorted, UpToBlock, nothing
from mezzotint.decode.canvas import Span, Step
from mezzotint.decode.plan import Blocks, Sliding, multiples
from mezzotint.decode.propose import likeliest
from mezzotint.decode.reader import Reader
from mezzotint.decode.rule import Seeded, Unmask
from mezzotint.decode.run import Decoding, Run, generate, lay_out
from mezzotint.decode.select import Above, most_confident
from mezzotint.decode.shapers import Ban
from mezzotint.masks import causal

PROMPTS = [[1, 2, 3, 4, 6, 7, 8], [9, 10], [11, 12, 13, 14]]
RULE = Unmask(likeliest, Above(0.5), shapers=(Ban(torch.arange(23) == MASK),))
EXACT = [Prefix(every=1), Dual(every=1), Dual(every=1, back=3, ahead=2), Delayed(every=1)]
CLOSE = [Prefix(), Dual(), Prefix(every=3), Dual(every=2), Dual(back=2, ahead=3), Delayed(), Delayed(every=3)]


def answers(written):
    return [row[~fixed].tolist() for row, fixed in zip(written.canvas.tokens, written.canvas.fixed, strict=True)]


def logits(model, policy, plan):
    """The window's logits in every step, on the canvases of the run without a cache."""
    made = []
    base = Run(model, PROMPTS, 13, Decoding(RULE, plan, nothing if model.block is None else UpToBlock(model.block)))
    reader = Reader(model.network, policy, model.sees, base.valid)
    plain = base.reader

    def both(canvas, step):
        raw = plain(canvas, step)
        made.append((raw, reader(canvas, step), canvas.open.gather(-1, step.window.columns())))
        return raw

    base.reader = both
    for _ in base:
        pass
    assert len(made) > 3
    return made, reader


@pytest.mark.parametrize("shifted", [False, True])
@pytest.mark.parametrize("policy", EXACT, ids=repr)
def test_11_13_a_cache_that_is_renewed_every_step_is_none(policy, shifted):
    made, _ = logits(model(shifted=shifted), policy, Blocks(5))
    for plain, cached, open in made:
        torch.testing.assert_close(cached[open], plain[open], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("shifted", [False, True])
@pytest.mark.parametrize("policy", CLOSE, ids=repr)
def test_the_first_step_of_a_window_is_exact_and_later_ones_are_not(policy, shifted):
    made, reader = logits(model(shifted=shifted), policy, Blocks(5, steps=5))
    plain, cached, open = made[0]
    torch.testing.assert_close(cached[open], plain[open], atol=1e-4, rtol=1e-4)
    assert max((c - p)[o].abs().max() for p, c, o in made if o.any()) > 1e-6
    assert sum(reader.passes) < len(made) * max(reader.passes)


@pytest.mark.parametrize("shifted", [False, True])
@pytest.mark.parametrize("size", [4, 2])
@pytest.mark.parametrize("fused", [False, True])
def test_6_finished_blocks_of_a_block_causal_network_are_exact(fused, size, shifted):
    made, reader = logits(model(block=4, shifted=shifted), FinishedBlocks(4, fused), Blocks(size, place=multiples))
    for plain, cached, open in made:
        torch.testing.assert_close(cached[open], plain[open], atol=1e-4, rtol=1e-4)
    assert max(reader.passes[-8:]) <= 8 + shifted


def test_7_reading_blocks_at_once_or_one_by_one_leaves_the_same_keys():
    net = model(block=4)
    canvas, valid = lay_out(net, [[*range(1, 9)] * 2], 8)
    stores = []
    for starts in ([16], [0, 4, 8, 12, 16]):
        reader = Reader(net.network, FinishedBlocks(4, fused=False), net.sees, valid)
        for start in starts:
            zero = torch.zeros(1, 1)
            reader(canvas, Step(Span(torch.tensor([start]), 4), torch.tensor([1]), 0, zero, zero))
        stores.append(reader.store)
    one, many = stores
    torch.testing.assert_close(one.memory.keys[..., :16, :], many.memory.keys[..., :16, :], atol=1e-5, rtol=1e-5)


def test_a_causal_network_over_sorted_columns_may_keep_their_beginning():
    net = model()
    runs = []
    for keep in (False, True):
        run = Run(net, PROMPTS, 13, Decoding(RULE, Sliding(5), Sorted(keep)))
        run.reader.sees = lambda before: lambda row, head, query, key: causal(row, head, query + before, key)
        runs.append((list(run)[-1].tokens, run.reader.passes))
    assert torch.equal(runs[0][0], runs[1][0])
    assert sum(runs[1][1]) < sum(runs[0][1]) / 2


@pytest.mark.parametrize("policy", [nothing, *CLOSE], ids=repr)
@pytest.mark.parametrize("shifted", [False, True])
def test_rows_of_a_batch_are_what_they_are_alone(policy, shifted):
    net, decoding = model(shifted=shifted), Decoding(RULE, Blocks(5), policy, halt=False)
    if isinstance(policy, Delayed):
        # how many columns are kept is the batch's least, so later steps differ; the first window's do not
        decoding = Decoding(RULE, Blocks(13, steps=1), policy, halt=False)
    together = answers(generate(net, PROMPTS, 13, decoding))
    assert together == [answers(generate(net, [prompt], 13, decoding))[0] for prompt in PROMPTS]


@pytest.mark.parametrize("fused", [False, True])
def test_rows_of_a_block_causal_batch_are_what_they_are_alone(fused):
    net = model(block=4)
    decoding = Decoding(RULE, Blocks(4, place=multiples), FinishedBlocks(4, fused), halt=False)
    together = generate(net, PROMPTS, 13, decoding)
    alone = [generate(net, [prompt], 13, decoding) for prompt in PROMPTS]
    assert together.texts == [one.texts[0] for one in alone]
    assert [len(text) for text in together.texts] == [13] * 3


@pytest.mark.parametrize("policy", CLOSE[:3], ids=repr)
def test_a_seeded_window_needs_nothing_before_it(policy):
    net = model(shifted=True)
    seeded = type(policy)(**{**policy.__dict__, "seeded": True})
    made = generate(net, PROMPTS, 10, Decoding(Seeded(RULE), Blocks(5), seeded, halt=False))
    assert not made.canvas.open.any()
    first = generate(
        net,
        PROMPTS,
        10,
        Decoding(Unmask(likeliest, most_confident, shapers=RULE.shapers), Blocks(1, steps=1), halt=False),
    )
    assert made.texts[0][0] == first.texts[0][0]
