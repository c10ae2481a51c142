"""A text ends at a confirmed end token, and at nothing else."""

import pytest
import torch
from tiny_reader import MASK, STOP, VOCAB, model

from mezzotint.decode.canvas import infill
from mezzotint.decode.loop import decode
from mezzotint.decode.plan import Blocks, multiples
from mezzotint.decode.propose import likeliest
from mezzotint.decode.rule import Unmask
from mezzotint.decode.run import Decoding, generate
from mezzotint.decode.select import Above, leftmost, most_confident
from mezzotint.decode.stopping import Until, confirmed, written

PRIOR = model().prior


def told(order):
    """A network that is sure of `order` of columns, and writes the end at every column that is a multiple of three."""

    def denoise(canvas, step):
        columns = step.window.columns()
        token = torch.where(columns % 3 == 0, STOP, columns % 5 + 6)
        sure = torch.tensor(order, dtype=torch.float32)[columns]
        return torch.nn.functional.one_hot(token, VOCAB) * sure[..., None]

    return denoise


def ran(rows, order, plan, select=leftmost):
    return list(decode(infill(rows, PRIOR), told(order), Unmask(likeliest, select), plan))


def test_an_end_counts_when_nothing_before_it_is_open():
    canvas = infill([[1, None, None, None]], PRIOR)
    canvas.tokens[0, 2], canvas.open[0, 2] = STOP, False
    assert not confirmed(canvas, (STOP,)).any()
    canvas.open[0, 1] = False
    assert confirmed(canvas, (STOP,)).all()


def test_an_end_that_was_given_ends_nothing():
    canvas = infill([[STOP, 1, STOP, None]], PRIOR)
    canvas.open[0, 3] = False
    assert not confirmed(canvas, (STOP,)).any()


def test_19_a_row_stops_only_at_a_confirmed_end():
    order = [0, 1, 2, 9, 4, 5, 8, 3, 2, 1]
    path = ran([[1, *[None] * 9]], order, Until(Blocks(9), (STOP,)), most_confident)
    # the ends at 3 and 6 are written first, and count when 1 and 2 are there
    assert [int(step.open.sum()) for step in path] == [8, 7, 6, 5, 4, 3, 2, 1][: len(path)]
    last = path[-1]
    assert not last.open[0, :4].any()
    assert last.open[0].any()
    assert written(last, 9, (STOP,)) == [[7, 8]]


def test_rows_that_have_ended_wait_as_they_are():
    order = list(range(20, 0, -1))
    short, long = [1, *[None] * 12], [1, 1, 1, 1, 1, *[None] * 8]
    plan = Until(Blocks(12), (STOP,))
    together = ran([short, long], order, plan, leftmost)[-1]
    alone = [ran([row], order, plan, leftmost)[-1] for row in (short, long)]
    for row, one in enumerate(alone):
        assert written(together, 12, (STOP,))[row] == written(one, 12, (STOP,))[0]
        assert torch.equal(together.open[row], one.open[0])


def test_blocks_behind_the_end_cost_nothing():
    order = [1.0] * 40
    path = ran([[1, *[None] * 32]], order, Until(Blocks(8), (STOP,)), leftmost)
    assert len(path) == 3


def test_an_end_in_the_given_part_of_a_block_is_no_end():
    net = model(block=4)
    prompt = [7, 8, STOP, 9, STOP, 6]
    rule = Unmask(likeliest, Above(0.9))
    made = generate(net, [prompt], 9, Decoding(rule, Blocks(4, place=multiples)))
    free = generate(net, [prompt], 9, Decoding(rule, Blocks(4, place=multiples), halt=False))
    cut = free.texts[0][: free.texts[0].index(STOP)] if STOP in free.texts[0] else free.texts[0]
    assert made.texts[0] == cut


@pytest.mark.parametrize("length", [5, 9, 16])
def test_19_stopping_early_is_cutting_off_for_block_causal_networks(length):
    for seed in range(6):
        net = model(block=4, seed=seed)
        net.network.head.weight[STOP] *= 2
        rule = Unmask(likeliest, Above(0.4))
        early, whole = (
            generate(net, [[1, 2, 3], [4]], length, Decoding(rule, Blocks(4, place=multiples), halt=halt))
            for halt in (True, False)
        )
        assert early.passes <= whole.passes
        for got, full in zip(early.texts, whole.texts, strict=True):
            assert got == (full[: full.index(STOP)] if STOP in full else full)


def test_20_a_mask_in_a_prompt_is_a_token_like_others():
    net = model()
    prompt = [1, MASK, 2, MASK]
    made = generate(net, [prompt, [3]], 6, Decoding(Unmask(likeliest, Above(0.4)), Blocks(3), guidance=1.0))
    assert made.canvas.tokens[0, :4].tolist() == prompt
