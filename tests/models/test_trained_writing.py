"""Texts at a temperature, several at once, and longer than the window."""

import itertools

import pytest
import torch

from mezzotint.data.characters import Characters
from mezzotint.denoisers.networks.small_transformer import TransformerConfig
from mezzotint.errors import ConfigError, RequestError
from mezzotint.families import AR, BD3LM, D3PM, GIDD, MDLM, SED, SEDD, UDLM, Duo, EditFlow, FlexMDM, ReMDM
from mezzotint.models.trained import TrainedConfig, TrainedModel
from mezzotint.models.trained_writing import shaped, write, write_beyond

LENGTH = 8
SHAPED = [AR(), MDLM(), BD3LM(block=4), ReMDM(), D3PM(steps=16), UDLM(), Duo(), GIDD(), SEDD(answers="tokens")]
TIMED = ("d3pm", "udlm", "duo", "gidd", "sedd", "sed", "edit_flow", "flexmdm")


def fresh(family, length=LENGTH):
    torch.manual_seed(0)
    network = TransformerConfig(width=32, layers=1, heads=2, timed=family.kind in TIMED)
    shape = TrainedConfig(network=network, family=family, length=length)
    model = TrainedModel.fresh(shape, Characters.of("the cat sat on a mat"))
    # a head that says something, so that temperatures matter
    if hasattr(model.network, "head"):
        torch.nn.init.normal_(model.network.head.weight)
    model.network.eval()
    return model


def tokens(frames):
    *_, last = frames
    return last.tokens


@pytest.mark.parametrize("family", SHAPED, ids=lambda family: family.kind)
def test_a_temperature_and_a_nucleus_leave_texts_of_real_tokens(family):
    model = fresh(family)
    for temperature, top_p in ((0.0, 1.0), (0.7, 0.9), (1.5, 0.5)):
        found = tokens(write(model, [0, *[None] * 7], 8, [0, 1, 2], temperature=temperature, top_p=top_p))
        assert found.shape == (3, 8)
        assert int(found.max()) < model.vocabulary.mask_id
        assert found[:, 0].tolist() == [0, 0, 0]


def test_at_temperature_zero_every_seed_writes_the_likeliest_text():
    found = tokens(write(fresh(AR()), [0, *[None] * 7], 8, [0, 1, 2], temperature=0.0))
    assert len({tuple(row) for row in found.tolist()}) == 1
    drawn = tokens(write(fresh(AR()), [0, *[None] * 7], 8, [0, 1, 2]))
    assert len({tuple(row) for row in drawn.tolist()}) == 3


def test_a_small_nucleus_draws_what_temperature_zero_writes():
    greedy = tokens(write(fresh(AR()), [0, *[None] * 7], 8, [5], temperature=0.0))
    assert torch.equal(tokens(write(fresh(AR()), [0, *[None] * 7], 8, [5], top_p=1e-6)), greedy)


def test_a_text_among_others_is_the_one_of_its_seed():
    model = fresh(MDLM())
    together = tokens(write(model, [0, *[None] * 7], 8, [3, 4, 5], temperature=0.8))
    alone = [tokens(write(model, [0, *[None] * 7], 8, [seed], temperature=0.8)) for seed in (3, 4, 5)]
    assert torch.equal(together, torch.cat(alone))


@pytest.mark.parametrize("family", [SEDD(), SED(steps=16), EditFlow(), FlexMDM()], ids=lambda family: family.kind)
def test_families_without_logits_of_tokens_are_refused_by_name(family):
    model = fresh(family)
    with pytest.raises(ConfigError, match=family.kind):
        shaped(model, temperature=0.5)
    shaped(model)


@pytest.mark.parametrize(("temperature", "top_p"), [(-1.0, 1.0), (float("nan"), 1.0), (1.0, 0.0), (1.0, 1.5)])
def test_numbers_out_of_range_are_refused(temperature, top_p):
    with pytest.raises(ConfigError, match="cannot draw at temperature"):
        shaped(fresh(MDLM()), temperature, top_p)


@pytest.mark.parametrize("family", [AR(), MDLM(), BD3LM(block=4), UDLM(), SED(steps=16)], ids=lambda f: f.kind)
@pytest.mark.parametrize("prompt", [3, 8, 21])
def test_a_text_grows_beyond_the_window_behind_its_own_end(family, prompt):
    model = fresh(family)
    columns = [index % 5 for index in range(prompt)]
    frames = list(write_beyond(model, columns, 30, 4, [0, 1]))
    rows = frames[-1].tokens
    assert rows.shape[0] == 2
    assert 30 <= rows.shape[1] < 30 + (model.family.block or 1)
    assert rows[:, :prompt].tolist() == [columns, columns]
    # every window is as long as the model reads at most, and what was final stays so
    for former, later in itertools.pairwise(frames):
        assert later.canvas.tokens.shape[1] <= LENGTH
        assert torch.equal(former.before, later.before[:, : former.before.shape[1]])
    # rows have noise of their own; an untrained network of vectors rounds to one token all the same
    assert not (model.family.logits and torch.equal(rows[0], rows[1]))


def test_a_text_within_the_window_is_written_as_ever():
    model = fresh(MDLM())
    long = [frame.tokens for frame in write_beyond(model, [0, 1], LENGTH, 4, [7])][-1]
    assert torch.equal(long, tokens(write(model, [0, 1, *[None] * 6], 4, [7])))


def test_holes_are_filled_by_the_first_window():
    rows = [frame.tokens for frame in write_beyond(fresh(MDLM()), [0, None, 2], 20, 4, [0])][-1]
    assert rows.shape == (1, 20)
    assert (int(rows[0, 0]), int(rows[0, 2])) == (0, 2)


@pytest.mark.parametrize(
    ("family", "columns", "length", "error", "said"),
    [
        (FlexMDM(), [0], 20, ConfigError, "flexmdm chooses the length"),
        (MDLM(), [0, 1, 2], 3, RequestError, "3 are asked for in all"),
        (MDLM(), [None, *[0] * 9], 20, RequestError, "first 8 tokens only"),
    ],
)
def test_what_cannot_grow_is_refused(family, columns, length, error, said):
    with pytest.raises(error, match=said):
        list(write_beyond(fresh(family), columns, length, 4, [0]))
