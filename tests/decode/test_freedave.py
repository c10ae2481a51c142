"""Steps that are foreseen write what single steps write, in fewer passes where the network is steady."""

from dataclasses import replace

import pytest
import torch
from tiny_reader import MASK, STOP, VOCAB, Told, model

from mezzotint.decode.methods.choices import DualCache, ExactCache, Klass, NoCache, Threshold
from mezzotint.decode.methods.freedave import FreeDave
from mezzotint.decode.methods.presets import Preset
from mezzotint.decode.run import MaskedModel
from mezzotint.errors import ConfigError

PROMPTS = [[1, 2, 3, 4, 6, 7, 8], [9, 10]]


def run(how, net, length, prompts=PROMPTS, seeds=None):
    made = how.begin(net, prompts, length, seeds)
    assert list(made)
    return made.result()


@pytest.mark.parametrize("drafts", [1, 3, 8])
@pytest.mark.parametrize(
    "how",
    [
        Preset(block=4),
        Preset(block=8, temperature=1.0),
        Preset(choose=Threshold(tau=0.3), block=8),
        Preset(guidance=1.0, confidence="entropy"),
    ],
    ids=["greedy", "drawn", "threshold", "guided"],
)
@pytest.mark.parametrize("kind", ["full", "blocks", "shifted"])
def test_14_the_text_is_that_of_single_steps(how, kind, drafts):
    net = model(block=8 if kind == "blocks" else None, shifted=kind == "shifted")
    how = replace(how, halt=False, cache=ExactCache() if kind == "blocks" else NoCache())
    single = run(how, net, 13, seeds=[4, 5])
    foreseen = run(FreeDave(how=how, drafts=drafts), net, 13, seeds=[4, 5])
    assert torch.equal(foreseen.canvas.tokens, single.canvas.tokens)
    assert torch.equal(foreseen.canvas.born, single.canvas.born)
    assert foreseen.passes <= single.passes


def test_14_a_steady_network_takes_a_pass_per_chain():
    table = torch.randn(64, VOCAB, generator=torch.Generator().manual_seed(2))
    table[:, [MASK, STOP]] = -9.0
    net, how = MaskedModel(Told(table), MASK, VOCAB, (STOP,)), Preset(block=16)
    single, foreseen = run(how, net, 32, [[1, 2]]), run(FreeDave(how=how, drafts=4), net, 32, [[1, 2]])
    assert foreseen.texts == single.texts
    assert single.passes == 32
    # a look, and four columns for every pass behind it
    assert foreseen.passes == 2 * (1 + 4)


def test_an_end_stops_it_and_rows_do_not_wait_for_each_other():
    net = model(seed=1)
    with torch.no_grad():
        net.network.head.weight[STOP] *= 2
    how = FreeDave(how=Preset(block=4), drafts=3)
    together = run(how, net, 16)
    assert together.texts == [run(how, net, 16, [prompt]).texts[0] for prompt in PROMPTS]
    assert together.texts == run(Preset(block=4), net, 16).texts
    assert any(len(text) < 16 for text in together.texts)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 4}, "a number of steps"),
        ({"edit": 0.5}, "edits"),
        ({"choose": Klass()}, "a choice that looks at earlier steps"),
        ({"cache": DualCache()}, "an approximate cache"),
        ({"confidence": "ancestral"}, "an ancestral schedule"),
    ],
)
def test_steps_that_depend_on_more_than_the_canvas_are_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        FreeDave(how=replace(Preset(block=4), **changes)).begin(model(), PROMPTS, 8)
