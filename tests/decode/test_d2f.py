"""Blocks that begin before the last is done: the published loop written out for one text, and what it must keep."""

from dataclasses import replace

import pytest
import torch
from tiny_reader import MASK, STOP, VOCAB, Told, model

from mezzotint.decode.methods.d2f import D2F, behind_prompt
from mezzotint.decode.methods.presets import Preset, decoding
from mezzotint.decode.run import MaskedModel, generate
from mezzotint.errors import ConfigError
from mezzotint.layouts import Attend, Inputs

PROMPTS = [[1, 2, 3, 4, 6, 7, 8], [9, 10]]
PLAIN = D2F(block=4, add=0.25, ready=0.75, tau=0.3)
D3LLM = D2F(block=4, add=0.5, ready=0.75, confidence="entropy", tau=-1.0, leading=True, causal=False, delay=0, every=1)


def run(how, net, length, prompts=PROMPTS, seeds=None):
    made = how.begin(net, prompts, length, seeds)
    assert list(made)
    return made.result()


def looked_up(net, how, text, start):
    """Float[L, V]: what the network says of one text, everything read anew."""
    n = len(text)
    mask = behind_prompt(start, how.block, 0) if how.causal else None
    h = net.network.hidden(Inputs(torch.tensor([text]), torch.arange(n)[None], Attend(n, n, mask)), None)
    raw = net.network.head(h)[0]
    raw = torch.cat([raw[:1], raw[:-1]]) if net.network.lookback else raw
    raw[:, MASK] = -torch.inf
    return raw


def transcribed(how, net, prompt, length):
    """The pipeline for one text in lists, without an early stop; the answer and the passes."""
    start, blocks, passes = len(prompt), [[MASK] * min(how.block, length)], 0
    while True:
        flat = [token for block in blocks for token in block]
        if MASK not in flat and len(flat) == length:
            return flat, passes
        raw, passes = looked_up(net, how, [*prompt, *flat], start)[start:], passes + 1
        chance = raw.softmax(-1)
        score = (
            chance.amax(-1)
            if how.confidence == "probability"
            else (chance * raw.log_softmax(-1).clamp_min(-1e9)).sum(-1)
        )
        old, first = [list(block) for block in blocks], True
        for at, block in enumerate(old):
            offset = at * how.block
            open = [i for i, token in enumerate(block) if token == MASK]
            if not open:
                continue
            accepted = [i for i in open if score[offset + i] > how.tau]
            before = 1.0 if at == 0 else 1 - old[at - 1].count(MASK) / len(old[at - 1])
            if not accepted and before >= how.ready and (first or not how.leading):
                accepted = [max(open, key=lambda i: float(score[offset + i]))]
            first = False
            for i in accepted:
                blocks[at][i] = int(raw[offset + i].argmax())
        last = blocks[-1]
        done = sum(map(len, blocks))
        if 1 - last.count(MASK) / len(last) >= how.add and done < length:
            blocks.append([MASK] * min(how.block, length - done))


@pytest.mark.parametrize("length", [3, 14])
@pytest.mark.parametrize("shifted", [False, True])
@pytest.mark.parametrize("how", [PLAIN, D3LLM, replace(PLAIN, add=0.0), replace(PLAIN, tau=0.99)])
def test_it_writes_what_the_published_loop_writes(how, shifted, length):
    net = model(stop=(), shifted=shifted)
    for prompt in PROMPTS:
        answer, passes = transcribed(how, net, prompt, length)
        made = run(how, net, length, [prompt])
        assert made.texts == [answer]
        assert made.passes == passes <= length


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("how", [PLAIN, D3LLM])
def test_rows_do_not_wait_for_each_other(how, temperature):
    net, how = model(), replace(how, temperature=temperature)
    together = run(how, net, 14, seeds=[5, 6])
    assert together.texts == [
        run(how, net, 14, [prompt], [seed]).texts[0] for prompt, seed in zip(PROMPTS, (5, 6), strict=True)
    ]


def test_finished_blocks_of_a_causal_pipeline_are_read_once():
    made = run(PLAIN, model(stop=()), 16, PROMPTS[:1])
    assert made.passes > 4
    assert max(made.reads[1:]) < len(PROMPTS[0]) + 16
    assert made.reads[-1] <= 8


@pytest.mark.parametrize("shifted", [False, True])
def test_a_delayed_cache_reads_less_and_still_finishes(shifted):
    net = model(stop=(), shifted=shifted)
    kept = run(replace(D3LLM, delay=1, every=8), net, 16)
    whole = run(D3LLM, net, 16)
    assert sum(kept.reads) < sum(whole.reads)
    assert not kept.canvas.open.any()


def test_a_block_that_waits_for_the_last_is_threshold_decoding():
    net = model(stop=())
    made = run(D2F(block=32, add=1.0, tau=0.4, causal=False, delay=0, every=1), net, 12)
    plain = generate(net, PROMPTS, 12, decoding(Preset(choose={"kind": "threshold", "tau": 0.4}), net, 12))
    assert made.texts == plain.texts
    assert made.passes == plain.passes


def test_no_block_begins_behind_an_end():
    table = torch.randn(64, VOCAB, generator=torch.Generator().manual_seed(2))
    table[:, STOP] = -9.0
    table[8, STOP] = 30.0
    net = MaskedModel(Told(table), MASK, VOCAB, (STOP,))
    made = run(D2F(block=4, add=0.0, tau=0.0), net, 40, [[1, 2]])
    assert len(made.texts[0]) == 6
    assert made.canvas.tokens.shape[1] - int(made.canvas.open.sum()) < 2 + 16
    assert max(made.reads) <= 2 + 12


def test_networks_with_blocks_of_their_own_are_refused():
    with pytest.raises(ConfigError, match="follow finished ones"):
        PLAIN.begin(model(block=4), PROMPTS, 8)
