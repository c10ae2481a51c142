"""WINO drafts many tokens a pass, masks contradicted ones again, and always ends."""

from dataclasses import replace

import pytest
import torch
from tiny_reader import MASK, STOP, model

from mezzotint.decode.methods.registry import method, tuned
from mezzotint.decode.methods.wino import Wino
from mezzotint.errors import ConfigError

PROMPTS = [[1, 2, 3, 4, 6, 7, 8], [9, MASK, STOP, 10], []]


def written(how, prompts=PROMPTS, length=12, seeds=None, net=None):
    run = how.begin(net or model(stop=()), prompts, length, seeds)
    path = list(run)
    return run.result(), path


def test_the_preset_writes_every_text_whole_and_keeps_the_prompts():
    result, path = written(tuned(method("wino"), "wino", block=4))
    assert [len(text) for text in result.texts] == [12, 12, 12]
    assert all(token != MASK for text in result.texts for token in text)
    assert not result.canvas.open.any()
    for row, prompt in enumerate(PROMPTS):
        there = result.canvas.fixed[row] & result.valid[row]
        assert result.canvas.tokens[row][there].tolist() == prompt
    # each pass reads the canvas and the window's shadow, and leaves fewer columns open
    assert set(result.reads) == {7 + 12 + 4}
    assert len(path) == result.passes <= 12


def test_a_text_is_the_same_alone_and_in_company():
    together, _ = written(Wino(block=6), seeds=[3, 4, 5])
    alone = [written(Wino(block=6), [prompt], seeds=[seed])[0] for prompt, seed in zip(PROMPTS, [3, 4, 5], strict=True)]
    assert together.texts == [each.texts[0] for each in alone]


def test_a_lower_threshold_takes_fewer_passes_and_verification_more():
    slow, fast = (written(Wino(block=12, threshold=tau, threshold_back=0.0))[0].passes for tau in (0.999, 0.0))
    assert fast < slow
    strict = written(Wino(block=12, threshold=0.0, threshold_back=0.99))[0].passes
    assert fast < strict


def test_it_ends_at_an_end_token_and_draws_at_a_temperature():
    net = model()
    plain, _ = written(Wino(block=4), net=net)
    assert all(STOP not in text for text in plain.texts)
    hot = [written(Wino(block=4, temperature=3.0), seeds=[s] * 3)[0].texts for s in (1, 1, 2)]
    assert hot[0] == hot[1]
    assert hot[0] != hot[2]


@pytest.mark.parametrize("net", [model(block=4), model(shifted=True)], ids=["blocks", "shifted"])
def test_networks_whose_tokens_cannot_be_verified_by_all_others_are_refused(net):
    with pytest.raises(ConfigError, match="full attention and logits in place"):
        Wino().begin(net, PROMPTS, 4)


def test_causal_attention_is_refused():
    net = replace(model(), pattern=lambda before: lambda row, head, query, key: key <= query)
    with pytest.raises(ConfigError, match="full attention"):
        Wino().begin(net, [[1]], 4)
    assert torch.is_tensor(written(Wino(), [[1]], 4)[0].canvas.tokens)
