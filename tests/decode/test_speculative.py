"""Drafts change how fast a text is written, never the text: it is the causal network's own."""

from dataclasses import replace

import pytest
import torch
from tiny_reader import MASK, STOP, VOCAB, Told, model

from mezzotint.decode.methods.causal_batch import CausalBatch, behind_sets
from mezzotint.decode.methods.speculative import Choose, SelfVerified, Speculative
from mezzotint.decode.run import MaskedModel
from mezzotint.errors import CanvasError, ConfigError
from mezzotint.layouts import Attend, Inputs
from mezzotint.masks import causal_behind

PROMPTS = [[1, 2, 3, 4, 6], [9], [7, 8]]


def run(how, net, length, prompts=PROMPTS, seeds=None):
    made = how.begin(net, prompts, length, seeds)
    assert list(made)
    return made.result()


def causal_net(seed=3):
    """A network that sees backwards and predicts the next column."""
    return replace(model(seed=seed, shifted=True), pattern=causal_behind)


def one_by_one(network, prompt, length, choose, banned=()):
    """What the causal network writes token by token, everything read anew."""
    text = list(prompt)
    while len(text) < len(prompt) + length:
        n = len(text)
        inputs = Inputs(torch.tensor([text]), torch.arange(n)[None], Attend(n, n, causal_behind(0)))
        raw = network.head(network.hidden(inputs, None))[0, -1:]
        raw[:, list(banned)] = -torch.inf
        text += choose(raw[None], torch.tensor([n]))[0]
        if text[-1] == STOP:
            return text[len(prompt) : -1]
    return text[len(prompt) :]


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("kind", ["full", "blocks", "shifted"])
def test_the_verifier_has_the_last_word(kind, temperature):
    verifier = causal_net(seed=5).network
    net = replace(model(block=4 if kind == "blocks" else None, shifted=kind == "shifted"), verifier=verifier)
    made = run(Speculative(ahead=3, temperature=temperature), net, 12, seeds=[4, 5, 6])
    for prompt, text, seed in zip(PROMPTS, made.texts, (4, 5, 6), strict=True):
        assert text == one_by_one(verifier, prompt, 12, Choose(temperature, 1.0, torch.tensor([seed])))


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("stride", [2, 4])
def test_a_network_that_checks_itself_writes_what_it_writes_one_by_one(stride, temperature):
    net = causal_net()
    made = run(SelfVerified(stride=stride, temperature=temperature), net, 14, seeds=[4, 5, 6])
    for prompt, text, seed in zip(PROMPTS, made.texts, (4, 5, 6), strict=True):
        assert text == one_by_one(net.network, prompt, 14, Choose(temperature, 1.0, torch.tensor([seed])), [MASK])
    assert made.passes <= 3 * 14


def test_a_network_that_is_right_wins_a_stride_for_every_pass():
    table = torch.randn(64, VOCAB, generator=torch.Generator().manual_seed(2))
    table[:, [MASK, STOP]] = -9.0
    net = MaskedModel(Told(table, 1), MASK, VOCAB, (STOP,), pattern=causal_behind)
    made = run(SelfVerified(stride=4), net, 20, [[1, 2]])
    assert made.texts == [table[1:21].argmax(-1).tolist()]
    assert made.passes == 1 + 5
    verified = run(Speculative(ahead=4), replace(net, verifier=net.network), 20, [[1, 2]])
    assert verified.texts == made.texts
    # two passes for the four drafts and the verifier's own token
    assert verified.passes == 2 * 4


BATCH = [[1, 2, 3, 4, 6], [9], [7, 8], [10, 11, 12], [3]]


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("kind", [SelfVerified(stride=3), Speculative(ahead=3)], ids=["self-verified", "speculative"])
@pytest.mark.parametrize("seed", [3, 7])
@pytest.mark.parametrize("stop", [(), (STOP,)], ids=["endless", "ending"])
def test_texts_share_passes_and_say_what_each_says_alone(kind, temperature, seed, stop):
    how, net = replace(kind, temperature=temperature), replace(causal_net(seed), stop=stop)
    if isinstance(kind, Speculative):
        net = replace(model(seed=seed, stop=stop), verifier=causal_net(5).network)
    together = run(how, net, 24, BATCH, [1, 2, 3, 4, 5])
    alone = [run(how, net, 24, [prompt], [1 + row]) for row, prompt in enumerate(BATCH)]
    assert together.texts == [each.texts[0] for each in alone]
    assert together.passes == max(each.passes for each in alone)
    assert not together.canvas.open.any() or stop


@pytest.mark.parametrize("stop", [(), (STOP,)], ids=["endless", "ending"])
def test_no_token_is_read_twice_although_the_memory_fills_with_drafts_that_did_not_stand(stop, monkeypatch):
    closed = []
    plain = CausalBatch._close_up
    monkeypatch.setattr(CausalBatch, "_close_up", lambda self, live: (closed.append(live), plain(self, live)))
    net, how = replace(causal_net(7), stop=stop), SelfVerified(stride=3)
    reads = run(how, net, 48, BATCH).reads
    # first the prompts, then a text's token, two drafts and three sets of two masks
    assert reads[0] == 5 + 2
    assert max(reads[1:]) == 9
    assert len(closed) > 1
    closed.clear()
    run(how, net, 24, BATCH[1:2])
    assert not closed


def test_masks_see_the_drafts_before_their_set_and_nothing_of_other_sets():
    # two columns kept, one of text, two drafts, three sets of two masks
    seen = Attend(9, 11, behind_sets(2, 1, 3, 2)).dense()[0, 0].long().tolist()
    assert seen == [
        [1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0],
        [1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0],
        [1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0],
        [1, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0],
        [1, 1, 1, 0, 0, 1, 1, 0, 0, 0, 0],
        [1, 1, 1, 1, 0, 0, 0, 1, 0, 0, 0],
        [1, 1, 1, 1, 0, 0, 0, 1, 1, 0, 0],
        [1, 1, 1, 1, 1, 0, 0, 0, 0, 1, 0],
        [1, 1, 1, 1, 1, 0, 0, 0, 0, 1, 1],
    ]


def test_what_cannot_be_verified_is_refused():
    with pytest.raises(ConfigError, match="--verifier"):
        Speculative().begin(model(), PROMPTS, 4)
    with pytest.raises(ConfigError, match="only a causal network"):
        SelfVerified().begin(model(shifted=True), PROMPTS, 4)
    with pytest.raises(CanvasError, match="without a prompt"):
        SelfVerified().begin(causal_net(), [[]], 4)
