"""Every preset writes any length, keeps prompts, and hears temperature, top-p and seeds."""

from dataclasses import replace

import pytest
import torch
from tiny_reader import MASK, STOP, VOCAB, model

from mezzotint.config import from_json, to_json
from mezzotint.decode.caches.policies import Sorted
from mezzotint.decode.canvas import infill
from mezzotint.decode.loop import decode
from mezzotint.decode.methods.presets import PRESETS, Preset, decoding
from mezzotint.decode.methods.registry import method
from mezzotint.decode.plan import Blocks
from mezzotint.decode.run import Run, generate
from mezzotint.errors import CanvasError, ConfigError
from mezzotint.masks import causal

PROMPTS = [[1, 2, 3, 4, 6, 7, 8], [9, MASK, STOP, 10], []]


def net_for(name):
    """A network of the kind that the preset was made for, with small blocks."""
    made = PRESETS[name]
    blocks = made.cache.kind == "exact"
    return model(block=(8 if name == "fdllm2" else 4) if blocks else None, shifted=made.seeded)


def small(name, **changes):
    """The preset with blocks that fit short answers."""
    made = PRESETS[name]
    return replace(made, block=made.block and 4, **changes)


def written(name, length, prompts=PROMPTS[:2], seeds=None, **changes):
    net = net_for(name)
    run = Run(net, prompts, length, decoding(small(name, **changes), net, length), seeds)
    if isinstance(run.reader.policy, Sorted):
        run.reader.sees = lambda before: lambda row, head, query, key: causal(row, head, query + before, key)
    for _ in run:
        pass
    return run.result()


@pytest.mark.parametrize(("length", "steps"), [(1, None), (7, 40), (14, 3), (9, 1)])
@pytest.mark.parametrize("name", PRESETS)
def test_any_length_and_any_number_of_steps(name, length, steps):
    made = written(name, length, halt=False, steps=steps)
    assert not made.canvas.open.any()
    assert [len(text) for text in made.texts] == [length, length]
    for row, prompt in enumerate(PROMPTS[:2]):
        given = made.canvas.tokens[row][made.canvas.fixed[row] & (made.valid[row] if made.valid is not None else True)]
        assert given.tolist() == prompt
    assert all(token != MASK for text in made.texts for token in text)
    edits = 0 if PRESETS[name].edit is None else PRESETS[name].posts + 1
    assert made.passes <= 16 + max(40, length) + edits * (length // 4 + 2)


@pytest.mark.parametrize("name", PRESETS)
def test_a_seed_gives_one_text_and_temperature_another(name):
    hot = {"temperature": 3.0, "top_p": 1.0, "halt": False}
    texts = [written(name, 16, seeds=[s, s + 1], **hot).texts for s in (5, 5, 90)]
    assert texts[0] == texts[1]
    assert texts[0] != texts[2]
    cold = [written(name, 12, seeds=[s, s], temperature=0.0, halt=False).texts for s in (1, 2)]
    if PRESETS[name].confidence not in ("random", "ancestral"):
        assert cold[0] == cold[1]
    assert cold[0] != texts[0]


@pytest.mark.parametrize("name", PRESETS)
def test_a_small_top_p_writes_first_choices_only(name):
    order = {"choose": {"kind": "sequential"}, "confidence": "probability", "halt": False}
    sharp = from_json(Preset, to_json(small(name, temperature=2.0, top_p=1e-6, top_k=0)))
    sharp = replace(sharp, **{**order, "choose": from_json(Preset, '{"choose": "sequential"}').choose})
    greedy = replace(sharp, temperature=0.0)
    net = net_for(name)
    texts = [generate(net, PROMPTS[:2], 9, decoding(each, net, 9)).canvas.tokens for each in (sharp, greedy)]
    assert torch.equal(*texts)


APART = ("none", "prefix", "dual", "exact", "thinned")
"""Caches that keep the rows of a batch apart."""


@pytest.mark.parametrize("name", [n for n in PRESETS if PRESETS[n].cache.kind in APART])
def test_22_a_row_does_not_depend_on_its_neighbours(name):
    settings = {"temperature": 1.0, "halt": True}
    together = written(name, 11, seeds=[4, 9], **settings).texts
    alone = [
        written(name, 11, [prompt], [seed], **settings).texts[0] for prompt, seed in zip(PROMPTS, (4, 9), strict=False)
    ]
    assert together == alone


def test_an_empty_prompt_is_a_prompt():
    net = model()
    assert len(generate(net, [[]], 6, decoding(Preset(halt=False), net, 6)).texts[0]) == 6


def test_guidance_needs_no_attention_mask_and_is_nothing_at_zero():
    net = model()
    plain, none, strong = (
        generate(net, PROMPTS[:2], 9, decoding(Preset(block=4, guidance=scale), net, 9)).canvas.tokens
        for scale in (0.0, 1e-7, 4.0)
    )
    assert torch.equal(plain, none)
    assert not torch.equal(plain, strong)


@pytest.mark.parametrize("cache", ["prefix", "dual", "delayed"])
def test_guidance_goes_with_every_cache(cache):
    net = model()
    settings = from_json(Preset, '{"block": 4, "guidance": 2.0}')
    cached = replace(settings, cache=from_json(Preset, f'{{"cache": {{"kind": "{cache}", "every": 1}}}}').cache)
    a, b = (generate(net, PROMPTS[:2], 9, decoding(each, net, 9)).canvas.tokens for each in (settings, cached))
    assert torch.equal(a, b)


def test_end_tokens_can_be_kept_back():
    net = model()
    net.network.head.weight[STOP] = 3 * net.network.head.weight[7]
    free, never = (
        generate(net, [[1, 2]], 12, decoding(Preset(ends=ends, halt=False), net, 12)) for ends in ("free", "never")
    )
    assert STOP in free.texts[0]
    assert STOP not in never.texts[0]


def test_end_tokens_can_wait_until_nothing_else_is_sure():
    rule = decoding(Preset(ends="last"), model(), 4).rule
    canvas = infill([[None] * 4], model().prior)
    raw = (
        torch.nn.functional.one_hot(torch.tensor([[STOP, 7, STOP, 8]]), VOCAB)
        * torch.tensor([9.0, 1.0, 9.0, 2.0])[:, None]
    )
    born = [after.born for after in decode(canvas, lambda canvas, step: raw, rule, Blocks(4))][-1]
    assert born.tolist() == [[2, 1, 3, 0]]


def test_settings_that_contradict_the_network_are_refused():
    with pytest.raises(ConfigError, match="blocks of 4; ask for --block 4"):
        decoding(Preset(block=3), model(block=4), 8)
    with pytest.raises(ConfigError, match="mezzotint models presets"):
        method("nobody")
    with pytest.raises(CanvasError, match="at least 1"):
        generate(model(), [[1]], 0, decoding(Preset(), model(), 1))
    with pytest.raises(CanvasError, match="at least one"):
        generate(model(), [], 3, decoding(Preset(), model(), 3))


def test_rows_of_the_vocabulary_that_mean_nothing_are_never_written():
    net = replace(model(), tokens=9)
    made = generate(net, PROMPTS[:1], 16, decoding(Preset(temperature=5.0, halt=False), net, 16))
    assert max(made.texts[0]) < 9


FOCUSED = [
    name
    for name, made in PRESETS.items()
    if made.confidence not in ("random", "ancestral") and decoding(small(name), net_for(name), 14).focus
]


@pytest.mark.parametrize("name", FOCUSED)
def test_looking_at_open_columns_only_writes_the_same(name):
    net = net_for(name)
    how = decoding(small(name, temperature=0.0), net, 14)
    focused, whole = (generate(net, PROMPTS[:2], 14, each) for each in (how, replace(how, focus=False)))
    assert focused.texts == whole.texts
    assert focused.passes == whole.passes
