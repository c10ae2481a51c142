"""Edits that lead from any draft to the text, and the loss that teaches them."""

import itertools

import pytest
import torch

from mezzotint.batch import Batch
from mezzotint.decode.canvas import rebuilt
from mezzotint.errors import ConfigError
from mezzotint.families.llada2 import LLaDA2
from mezzotint.objectives.levenshtein_editing import common, edits
from mezzotint.rng import Rng

MASK, DELETE, INSERT, VOCAB = 9, 8, 7, 10
IDS = (DELETE, INSERT)


def edited(draft, said):
    """The draft after its edits, filled up with masks."""
    tokens = torch.tensor([[token if each == INSERT else each for token, each in zip(draft, said, strict=True)]])
    counts = torch.tensor([[{DELETE: 0, INSERT: 2}.get(each, 1) for each in said]])
    source = rebuilt(counts, len(draft))
    return torch.where(source < 0, MASK, tokens.gather(-1, source.clamp_min(0)))[0].tolist()


def longest_gap(draft, text):
    """The most tokens of the text between two that the draft has in common with it."""
    ends = [-1, *(j for _, j in common(draft, text)), len(text)]
    return max(after - before - 1 for before, after in itertools.pairwise(ends))


@pytest.mark.parametrize("length", [1, 2, 3, 4, 5])
def test_18_edits_of_any_draft_lead_to_the_text_in_a_round_per_missing_token_and_one_more(length):
    bounds = set()
    for text in itertools.product((1, 2), repeat=length):
        for draft in itertools.product((1, 2, MASK), repeat=length):
            now, rounds, gap = list(draft), 0, longest_gap(draft, text)
            while now != list(text) and rounds <= gap + 1:
                now, rounds = edited(now, edits(now, text, MASK, IDS)), rounds + 1
            assert rounds <= gap + 1, (draft, text)
            bounds.add(gap + 1 - rounds)
    assert 0 in bounds  # no fewer would do


@pytest.mark.parametrize("seed", range(20))
def test_common_tokens_are_in_order_and_as_many_as_any_choice_gives(seed):
    one, other = torch.randint(0, 3, (2, 7), generator=torch.Generator().manual_seed(seed)).tolist()
    found = common(one, other)
    assert all(one[i] == other[j] for i, j in found)
    assert all(a < c and b < d for (a, b), (c, d) in itertools.pairwise(found))

    def inside(some, whole):
        rest = iter(whole)
        return all(token in rest for token in some)

    assert not any(inside(some, other) for some in itertools.combinations(one, len(found) + 1))


@pytest.mark.parametrize(
    ("draft", "text", "said"),
    [
        ([1, 2, 3], [1, 2, 3], [1, 2, 3]),
        ([1, 4, 3], [1, 2, 3], [1, 2, 3]),
        ([1, 3, 4], [1, 2, 3], [1, INSERT, DELETE]),
        ([4, 1, 2], [1, 2, 3], [DELETE, 1, 2]),
        ([4, 5, 6], [1, 2, 3], [DELETE] * 3),
        ([MASK] * 3, [1, 2, 3], [1, 2, 3]),
        ([4, MASK, 3, MASK], [1, 3, 2, 5], [1, DELETE, 3, 2]),
    ],
)
def test_each_kind_of_edit(draft, text, said):
    assert edits(draft, text, MASK, IDS) == said


class Told(torch.nn.Module):
    """Logits by the token that stands in a column; keeps what it read."""

    def __init__(self, raw):
        super().__init__()
        self.raw, self.read = torch.nn.Parameter(raw), []

    def forward(self, inputs, t):
        self.read.append((inputs.x, t))
        return self.raw[inputs.x]


def test_the_loss_is_the_mean_of_filling_and_editing_its_own_draft():
    raw = torch.randn(VOCAB, VOCAB, generator=torch.Generator().manual_seed(4))
    network = Told(raw)
    tokens = torch.randint(1, 6, (3, 8), generator=torch.Generator().manual_seed(5))
    target = torch.arange(8) >= torch.tensor([[0], [3], [5]])
    loss = LLaDA2(block=4, edit_ids=IDS).build(VOCAB, MASK).objective(network, Batch(tokens, target), Rng(2))
    (first, t), (second, clean) = ((x[:, :8], t) for x, t in network.read)
    masked = first == MASK
    assert masked.any()
    assert not (masked & ~target).any()
    assert not clean.any()
    assert t[target].min() > 0
    best = raw[MASK].index_fill(0, torch.tensor([MASK, *IDS]), -torch.inf).argmax()
    assert torch.equal(second, torch.where(masked, best, tokens))
    fill = -raw.log_softmax(-1)[MASK, tokens][masked].mean()
    nats = []
    for row, (wrote, text) in enumerate(zip(second.tolist(), tokens.tolist(), strict=True)):
        for start in (0, 4):
            at = [i for i in range(start, start + 4) if target[row, i]]
            said = edits([wrote[i] for i in at], [text[i] for i in at], MASK, IDS)
            nats += [-raw.log_softmax(-1)[wrote[i], token] for i, token in zip(at, said, strict=True)]
    edit = torch.stack(nats).mean()
    torch.testing.assert_close(loss.total, (fill + edit) / 2)
    torch.testing.assert_close(loss.metrics["edit"], edit)
    assert int(loss.count) == int(target.sum())
    loss.total.backward()
    assert network.raw.grad[MASK].abs().sum() > 0


@pytest.mark.parametrize("ids", [(DELETE, DELETE), (MASK, INSERT), (DELETE, VOCAB)])
def test_ids_that_cannot_edit_are_refused(ids):
    with pytest.raises(ConfigError, match="two ids below 10"):
        LLaDA2(edit_ids=ids).build(VOCAB, MASK)


def test_edits_and_a_price_on_doubt_are_not_learnt_together():
    with pytest.raises(ConfigError, match="without a price on doubt"):
        LLaDA2(edit_ids=IDS, certain=2.0).build(VOCAB, MASK)
