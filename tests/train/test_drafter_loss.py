"""Training sees what decoding sees, and the loss is what the card says."""

import math

import numpy as np
import pytest
import torch
from tiny_hybrid import SHAPE, TAPS, checkpoint, drafter, eager, fresh

from mezzotint.denoisers.hybrid.torch_backend import EagerDrafter, restored
from mezzotint.denoisers.networks.drafter import sees
from mezzotint.rng import Rng
from mezzotint.train.drafter.loss import DraftBatch, DraftLoss, rows

CK = checkpoint()
LENGTH = 48
ANCHORS = [0, 3, 18, 19, 20, 21, 37, 42]
"""At both ends and around the window of 20 rows."""
KNOWN = [[0, 0, 0], [1, 0, 0], [0, 0, 0], [0, 1, 1], [0, 0, 0], [1, 1, 1], [0, 1, 0], [0, 0, 0]]


OTHERS = np.setdiff1d(np.arange(104), drafter(CK).ids.numpy())[[3, 30, 11]]


def batch(count=2, seed=0, top=4):
    """Texts with the network's taps, and targets of which some have no id and some nothing to learn."""
    rng = np.random.default_rng(seed)
    tokens = rng.integers(3, 104, (count, LENGTH))
    network = eager(CK)
    taps = np.stack([fresh(network, text.tolist())[1] for text in tokens])
    p = np.sort(rng.random((count, LENGTH, top)), axis=-1)[..., ::-1].copy() / top
    p[:, :5], p[:, -1] = 0, 0
    return DraftBatch(
        tokens=torch.from_numpy(tokens),
        taps=torch.from_numpy(taps),
        top_ids=torch.from_numpy(rng.integers(-1, 40 + len(OTHERS), (count, LENGTH, top))),
        top_p=torch.from_numpy(p).float(),
        anchors=torch.tensor(ANCHORS).expand(count, -1).clone(),
        known=torch.tensor(KNOWN, dtype=torch.bool).expand(count, -1, -1).clone(),
        others=torch.from_numpy(OTHERS),
    )


@torch.no_grad()
def test_rows_of_training_equal_those_of_decoding():
    made, given = drafter(CK), batch()
    context, blocks = rows(made, given)
    for text in range(2):
        decoding = EagerDrafter(made)
        tokens, taps = given.tokens[text].tolist(), given.taps[text].numpy()
        for i, anchor in enumerate(ANCHORS):
            at = decoding.length()
            state, _ = decoding.read(taps[at : anchor + 1], tokens[at + 1 : anchor + 2])
            seen = decoding.look([tokens[anchor + j + 2] if known else -1 for j, known in enumerate(KNOWN[i])])
            np.testing.assert_allclose(state, context[text, anchor], rtol=1e-4, atol=1e-4)
            np.testing.assert_allclose(seen, blocks[text, i], rtol=1e-4, atol=1e-4)


def test_the_mask_written_out():
    """Two context rows and a third, then two block rows on anchor 1; a window of two."""
    positions = torch.tensor([[0, 1, 2, 2, 3]])
    anchors = torch.tensor([[0, 1, 2, 1, 1]])
    want = [[1, 0, 0, 0, 0], [1, 1, 0, 0, 0], [0, 1, 1, 0, 0], [0, 1, 0, 1, 1], [0, 0, 0, 1, 1]]
    assert sees(positions, anchors, 3, 2)[0].int().tolist() == want


def slow_loss(made, given, gamma, argmax):
    """The loss, one position at a time: context rows predict the token after next, block rows the following ones."""
    context, blocks = rows(made, given)
    total, weight = 0.0, 0.0

    def add(state, position, share):
        nonlocal total, weight
        ids, p = given.top_ids[text, position].tolist(), given.top_p[text, position].double()
        if float(p.sum()) <= 0 or ids[0] < 0:
            return
        rows_of_head = made.embedding[torch.cat([made.ids, given.others])]
        logp = (made.norm(state) @ rows_of_head.T).double().log_softmax(-1)
        goal = ((1 - argmax) * p / p.sum()).tolist()
        goal[0] += argmax
        total = total - share * sum(g * logp[i] for g, i in zip(goal, ids, strict=True) if i >= 0)
        weight += share

    for text in range(len(given.tokens)):
        for position in range(LENGTH - 1):
            add(context[text, position], min(position + 1, LENGTH - 1), 1.0)
        for i, anchor in enumerate(given.anchors[text].tolist()):
            state = context[text, anchor]
            for offset in range(1, blocks.shape[2] + 1):
                token = given.tokens[text, anchor + offset + 1]
                state = made.advance(blocks[text, i, offset - 1], token, state)
                add(state, anchor + offset + 1, math.exp(-offset / gamma))
    return total / weight, weight


@pytest.mark.parametrize(("gamma", "argmax"), [(4.0, 0.5), (1.0, 0.0), (2.0, 1.0)])
@torch.no_grad()
def test_the_loss_equals_a_slow_sum(gamma, argmax):
    made, given = drafter(CK), batch()
    loss = DraftLoss(gamma, argmax)(made, given, Rng(0))
    want, weight = slow_loss(made, given, gamma, argmax)
    torch.testing.assert_close(loss.total.double(), want, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(float(loss.count), weight, rtol=1e-5, atol=1e-5)
    assert set(loss.metrics) == {f"right_{i}" for i in range(1, SHAPE.block + 2)}
    assert all(0 <= float(value) <= 1 for value in loss.metrics.values())


def test_gradients_reach_every_parameter():
    made = drafter(CK)
    DraftLoss()(made, batch(), Rng(0)).total.backward()
    for name, parameter in made.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name
    assert not made.embedding.requires_grad


@torch.no_grad()
def test_dropout_is_for_training_alone():
    plain, given = drafter(CK), batch()
    weights = {name: x.numpy() for name, x in plain.state_dict().items()}
    dropped = restored(SHAPE, weights, plain.embedding, dropout=0.3)
    one, other = ([x.detach() for x in rows(dropped.train(), given)] for _ in range(2))
    assert all((a - b).abs().max() > 1e-3 for a, b in zip(one, other, strict=True))
    for got, want in zip(rows(dropped.eval(), given), rows(plain.train(), given), strict=True):
        torch.testing.assert_close(got, want)


def test_what_nothing_can_be_learned_from_costs_nothing():
    made, given = drafter(CK), batch()
    given.top_p.zero_()
    loss = DraftLoss()(made, given, Rng(0))
    assert float(loss.total) == 0
    assert all(float(value) == 0 for value in loss.metrics.values())


@torch.no_grad()
def test_texts_of_a_batch_do_not_see_each_other():
    made, given = drafter(CK), batch()
    want = rows(made, given)
    given.taps[1] *= -1
    for got, before in zip(rows(made, given), want, strict=True):
        torch.testing.assert_close(got[0], before[0])
        assert (got[1] - before[1]).abs().max() > 0


def test_taps_of_the_batch_are_those_of_the_shape():
    assert batch().taps.shape == (2, LENGTH, len(TAPS), SHAPE.width)
