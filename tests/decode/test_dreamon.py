"""Blanks that find their own length: scripted networks whose texts are known, and the published loop written out."""

import math
from dataclasses import replace
from functools import cache
from itertools import pairwise

import pytest
import torch
from tiny_reader import MASK, VOCAB, Counted, Shifted, model

from mezzotint.decode.methods.dreamon import DreamOn
from mezzotint.decode.run import MaskedModel
from mezzotint.errors import CanvasError, ConfigError
from mezzotint.layouts import Attend, Inputs

EXPAND, DELETE = 20, 21
GREEDY = DreamOn(temperature=0.0, top_p=1.0)
BEFORE, BEHIND = [1, 2, 3], [4, 6]


class Scripted(torch.nn.Module):
    """A network that is a function: (one row's ids, the column) -> the token that it is sure of, or probabilities."""

    lookback = 0

    def __init__(self, says):
        super().__init__()
        self.says = says

    def hidden(self, inputs, t):
        seen = inputs.attend.valid
        there = torch.ones_like(inputs.x).bool() if seen is None else seen
        out = torch.zeros(*inputs.x.shape, VOCAB)
        for b, row in enumerate(inputs.x):
            said = self._logits(tuple(row[there[b]].tolist()))
            out[b, : len(said)] = said
        return out

    @cache  # noqa: B019 - as long as the test
    def _logits(self, row):
        out = torch.full((len(row), VOCAB), -40.0)
        for i in range(len(row)):
            said = self.says(list(row), i)
            for token, chance in (said if isinstance(said, dict) else {said: 1.0}).items():
                out[i, token] = math.log(chance)
        return out

    def head(self, h):
        return h

    def memory(self, rows, columns):
        return Counted()


def scripted(says):
    return MaskedModel(Scripted(says), MASK, VOCAB, stretch_ids=(EXPAND, DELETE))


def fill(how, net, texts, length, seeds=None):
    run = how.begin(net, texts, length, seeds)
    frames = list(run)
    return frames, run.result()


def text(masks, before=BEFORE, behind=BEHIND):
    return [*before, *[None] * masks, *behind]


def whole(made, row=0):
    """The row as it stands, padding left out."""
    tokens = made.canvas.tokens[row]
    return tokens.tolist()[: int((made.canvas.tokens[row] != MASK).long().cumsum(0).argmax()) + 1]


@pytest.mark.parametrize("n", [0, 1, 2, 3, 5, 8])
@pytest.mark.parametrize("k", [1, 2, 4, 7])
def test_any_length_is_reached_from_any_other(n, k):
    target = [7 + i for i in range(n)]

    def says(row, i):
        there = len(row) - len(BEFORE) - len(BEHIND)
        return EXPAND if there < n else DELETE if there > n else (target[i - 3] if 0 <= i - 3 < n else 0)

    _, made = fill(GREEDY, scripted(says), [text(k)], 8)
    assert made.texts == [target]
    assert whole(made) == [*BEFORE, *target, *BEHIND]
    assert made.passes == abs(n - k) + n  # one pass for every column that is added or taken out, one for every token


@pytest.mark.parametrize("n", [1, 3, 6])
def test_a_network_that_writes_before_it_expands_gets_as_far(n):
    target = [7 + i for i in range(n)]

    def says(row, i):
        last = row[i + 1 : i + 2] != [MASK]
        return EXPAND if last and i - 3 < n - 1 else target[min(max(0, i - 3), n - 1)]

    _, made = fill(GREEDY, scripted(says), [text(1)], 8)
    assert made.texts == [target]
    assert made.passes == 2 * n - 1


@pytest.mark.parametrize("at_once", [1, 3])
@pytest.mark.parametrize("length", [2, 5, 9])
def test_expanding_forever_ends_at_the_length_asked_for(length, at_once):
    net = scripted(lambda row, i: {EXPAND: 0.9, 7: 0.1})
    frames, made = fill(replace(GREEDY, at_once=at_once), net, [text(2)], length)
    assert made.texts == [[7] * length]
    assert max(int((~frame.fixed).sum()) for frame in frames) == length
    if at_once == 1:
        assert made.passes == length - 2 + length


def test_a_text_expands_only_so_often():
    net = scripted(lambda row, i: {EXPAND: 0.9, 7: 0.1})
    assert fill(replace(GREEDY, expansions=3), net, [text(2)], 9)[1].texts == [[7] * 5]
    assert fill(replace(GREEDY, expansions=0), net, [text(2)], 9)[1].texts == [[7] * 2]


def test_growing_and_shrinking_by_turns_ends():
    # an even number of columns expands, an odd one shrinks: only the number of expansions ends this
    def says(row, i):
        return {EXPAND: 0.9, 7: 0.1} if len(row) % 2 else {DELETE: 0.9, 7: 0.1}

    frames, made = fill(GREEDY, scripted(says), [text(2)], 9)
    assert made.passes == len(frames) <= 2 + 2 * 9
    assert not made.canvas.open.any()


@pytest.mark.parametrize(("sweep", "passes"), [(False, 5), (True, 1)])
def test_a_network_that_deletes_all_leaves_nothing(sweep, passes):
    _, made = fill(replace(GREEDY, sweep=sweep), scripted(lambda row, i: DELETE), [text(5)], 9)
    assert made.texts == [[]]
    assert whole(made) == [*BEFORE, *BEHIND]
    assert made.passes == passes


def test_a_sweep_stays_in_its_blank_and_takes_no_token():
    rows = [[1, None, None, None, 2, None, None, 3]]

    def says(row, i):
        # the first blank's second column is written, then its first one is deleted; the other blank is written
        if i > row.index(2):
            return {8: 0.6, 9: 0.4}
        return {7: 0.97, 6: 0.03} if i == 2 and row[3] == MASK else {DELETE: 0.95, 6: 0.05}

    _, made = fill(replace(GREEDY, sweep=True), scripted(says), rows, 9)
    assert whole(made) == [1, 7, 2, 8, 8, 3]
    assert made.passes == 4


def test_several_blanks_share_the_room_and_a_prompt_without_one_has_it_behind():
    net = scripted(lambda row, i: {EXPAND: 0.9, 7: 0.1})
    _, made = fill(GREEDY, net, [[None, 1, None, 2], [1, 2, 3]], 6)
    assert [len(each) for each in made.texts] == [6, 6]
    assert [token for token in whole(made) if token != 7] == [1, 2]
    assert whole(made, 1) == [1, 2, 3, *[7] * 6]
    assert fill(GREEDY, net, [[1]], 2)[1].texts == [[7, 7]]


def test_lengths_have_the_distribution_that_enumeration_gives():
    grow, shrink, most, rows = 0.3, 0.3, 3, 1500
    net = scripted(lambda row, i: {EXPAND: grow, DELETE: shrink, 7: 1 - grow - shrink})
    how = DreamOn(temperature=1.0, top_p=1.0, expansions=4)
    _, made = fill(how, net, [[1, None]] * rows, most, list(range(rows)))

    def lengths(masks, done, left):
        """Chances of each length from so many masks and tokens, with so many expansions left."""
        if not masks:
            return {done: 1.0}
        free = masks + done < most and left > 0
        total = 1.0 if free else 1 - grow
        paths = [(shrink / total, (masks - 1, done, left)), ((1 - grow - shrink) / total, (masks - 1, done + 1, left))]
        found = dict.fromkeys(range(most + 1), 0.0)
        for chance, state in [*paths, *([(grow, (masks + 1, done, left - 1))] if free else [])]:
            for length, share in lengths(*state).items():
                found[length] += chance * share
        return found

    expected = torch.tensor([lengths(1, 0, 4)[n] for n in range(most + 1)])
    seen = torch.bincount(torch.tensor([len(each) for each in made.texts]), minlength=most + 1)
    torch.testing.assert_close(expected.sum(), torch.tensor(1.0))
    # chi-squared with three degrees of freedom: 16.3 is the 0.999 quantile
    assert ((seen - expected * rows).square() / (expected * rows)).sum() < 16.3


def net(seed=3, expand=1.0, delete=1.0, shifted=False):
    made = replace(model(seed=seed, stop=(), shifted=shifted), stretch_ids=(EXPAND, DELETE))
    head = made.network.network.head if isinstance(made.network, Shifted) else made.network.head
    with torch.no_grad():
        head.weight[EXPAND] *= expand
        head.weight[DELETE] *= delete
    return made


def transcribed(made, row, length):
    """One text in lists, everything read anew in every pass; its tokens and the passes."""
    row, given = [MASK if x is None else x for x in row], [x is not None for x in row]
    passes, left = 0, length
    while (places := [i for i, token in enumerate(row) if token == MASK and not given[i]]) and passes < 99:
        n = len(row)
        inputs = Inputs(torch.tensor([row]), torch.arange(n)[None], Attend(n, n))
        raw, passes = made.network.head(made.network.hidden(inputs, None))[0], passes + 1
        raw = torch.cat([raw[:1], raw[:-1]]) if made.network.lookback else raw
        raw = raw.clone()
        raw[:, MASK] = -torch.inf
        if given.count(False) == length or not left:
            raw[:, EXPAND] = -torch.inf
        chance = raw.double().softmax(-1)
        nats = -(chance * (chance + 1e-300).log()).sum(-1)
        at = min(places, key=lambda i: float(nats[i]))
        said = int(raw[at].argmax())
        if said == EXPAND:
            row[at : at + 1], given[at : at + 1], left = [MASK, MASK], [False, False], left - 1
        elif said == DELETE:
            del row[at], given[at]
        else:
            row[at] = said
    return row, passes


TEXTS = [text(4), [None, None, 9], text(2, [8, 9, 10, 11], [12, None, 13])]


@pytest.mark.parametrize("shifted", [False, True])
@pytest.mark.parametrize(("expand", "delete"), [(1.0, 1.0), (3.0, 1.5), (0.0, 3.0)])
@pytest.mark.parametrize("seed", [1, 3])
def test_it_writes_what_the_published_loop_writes(seed, expand, delete, shifted):
    made = net(seed, expand, delete, shifted)
    expected = [transcribed(made, row, 9) for row in TEXTS]
    _, ours = fill(GREEDY, made, TEXTS, 9)
    for b, (row, _) in enumerate(expected):
        assert ours.canvas.tokens[b, : len(row)].tolist() == row
        assert ours.canvas.fixed[b, len(row) :].all()
    assert ours.passes == max(passes for _, passes in expected)


def test_columns_do_come_and_go_and_nothing_unsaid_is_written():
    frames, made = fill(GREEDY, net(3, 3.0, 1.5), TEXTS, 9)
    assert any(int(b.open[0].sum()) > int(a.open[0].sum()) for a, b in pairwise(frames))
    assert not made.canvas.open.any()
    assert not {token for each in made.texts for token in each} & {MASK, EXPAND, DELETE}


@pytest.mark.parametrize("how", [GREEDY, DreamOn(temperature=1.0, at_once=2), DreamOn(confidence="margin")])
def test_a_text_depends_on_its_seed_and_not_on_its_neighbours(how):
    made = net(3, 3.0, 1.5)
    together = fill(how, made, TEXTS, 9, [4, 5, 6])[1]
    for b, row in enumerate(TEXTS):
        alone = fill(how, made, [row], 9, [4 + b])[1]
        assert alone.texts[0] == together.texts[b]
    assert fill(how, made, TEXTS, 9, [4, 5, 6])[1].texts == together.texts
    drawn = {str(fill(how, made, TEXTS, 9, [s, s + 1, s + 2])[1].texts) for s in range(3)}
    assert (len(drawn) > 1) == (how.temperature > 0)


def test_what_does_not_fit_is_a_sentence():
    made = net()
    with pytest.raises(ConfigError, match="expand_token_id and delete_token_id"):
        GREEDY.begin(model(), TEXTS, 9)
    with pytest.raises(ConfigError, match="network of blocks"):
        GREEDY.begin(model(block=4), TEXTS, 9)
    with pytest.raises(CanvasError, match="text 1 begin with 5 masks and may have 4 tokens"):
        GREEDY.begin(made, [[1], text(5)], 4)
    with pytest.raises(CanvasError, match="cannot write 0 tokens"):
        GREEDY.begin(made, [[1]], 0)
    with pytest.raises(CanvasError, match="without rows"):
        GREEDY.begin(made, [], 4)
    with pytest.raises(CanvasError, match="came with 1 seeds"):
        GREEDY.begin(made, TEXTS, 9, [1])
