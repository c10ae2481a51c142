"""How texts of every family lie on a canvas: what is given stays, what is open is written, and only once read."""

import pytest
import torch

from mezzotint.batch import Batch
from mezzotint.data.characters import Characters
from mezzotint.decode.canvas import Span, Step
from mezzotint.decode.plan import Blocks, multiples
from mezzotint.denoisers.networks.small_transformer import TransformerConfig
from mezzotint.families import AR, BD3LM, MDLM, SED, UDLM, DiffusionBERT, DiffusionLM, Duo, EditFlow, FlexMDM
from mezzotint.families.base import objective_of
from mezzotint.families.forms.tokens import whole
from mezzotint.models.trained import TrainedConfig, TrainedModel, form_of
from mezzotint.rng import Rng

CHARACTERS = Characters.of("the cat sat on a mat")
FAMILIES = [
    AR(),
    BD3LM(block=4),
    MDLM(),
    UDLM(),
    Duo(curriculum=5),
    DiffusionBERT(steps=8),
    DiffusionLM(width=8, steps=50),
    SED(width=8, steps=50),
    EditFlow(),
    FlexMDM(),
]


def fresh(family, **shape):
    torch.manual_seed(0)
    network = TransformerConfig(width=32, layers=2, heads=2, timed=family.kind not in ("ar", "bd3lm"), **shape)
    model = TrainedModel.fresh(TrainedConfig(network=network, family=family, length=16), CHARACTERS)
    for parameter in model.network.parameters():  # heads that start at zero answer everything alike
        if parameter.requires_grad and not parameter.any():
            torch.nn.init.normal_(parameter, std=0.3)
    model.network.eval()
    return model


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.kind)
def test_given_columns_stay_and_no_mask_is_left(family):
    model = fresh(family)
    rows = [model.prompt("the ____ sat__", 0)] * 3
    *_, canvas = model.decode(model.canvas(rows), 8)
    written = model.form.written(canvas)
    assert not canvas.open.any()
    given = torch.tensor([token is not None for token in rows[0]])
    wanted = torch.tensor([token or 0 for token in rows[0]])
    assert (written[:, given] == wanted[given]).all()
    assert (written != CHARACTERS.mask_id).all()
    assert all(text.startswith("the ") and "_" not in text for text in model.texts(canvas))


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.kind)
def test_samples_keep_no_gradients(family):
    model = fresh(family)
    canvases = list(model.decode(model.blank(2), 4))
    for canvas in canvases:
        assert not canvas.score.requires_grad
        assert canvas.latent is None or not canvas.latent.requires_grad
    assert torch.is_grad_enabled()


@pytest.mark.parametrize("family", [f for f in FAMILIES if f.kind != "sed"], ids=lambda family: family.kind)
def test_losses_are_where_the_network_and_the_process_are(family):
    # the meta device refuses to mix with the CPU, as an accelerator does; SED's rows of chance cannot be counted there
    model = fresh(family)
    model.network.to("meta"), model.family.process.to("meta")
    tokens = torch.zeros(2, 16, dtype=torch.long, device="meta")
    batch = Batch(tokens, torch.ones_like(tokens, dtype=torch.bool))
    for objective in (model.family.objective, objective_of(model.family)):
        loss = objective(lambda inputs, t: model.network(inputs, t), batch, Rng(0, 1))
        assert loss.total.device.type == "meta"


def test_a_model_comes_back_from_disk_as_it_was(tmp_path):
    for family in FAMILIES:
        model = fresh(family)
        model.save(tmp_path)
        again = TrainedModel.load(tmp_path)
        one, two = ([*m.decode(m.blank(2), 4)][-1].tokens for m in (model, again))
        assert torch.equal(one, two)


@pytest.mark.parametrize("family", [AR(), BD3LM(block=4)], ids=lambda family: family.kind)
def test_kept_columns_give_the_answers_of_a_whole_pass(family):
    model = fresh(family)
    model = TrainedModel(model.shape, model.vocabulary, model.network.double(), model.family)
    tokens = torch.randint(0, CHARACTERS.mask_id, (3, 16), generator=torch.Generator().manual_seed(1))
    canvas = model.canvas([[*row[:4], *[None] * 8, *row[12:]] for row in tokens.tolist()])
    canvas.tokens.copy_(tokens)
    reading = model.family.reading
    with torch.no_grad():
        want = reading.extract(model.network(reading.arrange(tokens, tokens), None))
        reader = model.form.reader(model.network)
        for step in Blocks(model.family.block, 1, place=multiples)(canvas):
            found = reader(canvas, step)
            torch.testing.assert_close(found, want.gather(1, step.window.columns()[..., None].expand_as(found)))


def test_the_autoregressive_model_reads_every_column_once():
    model = fresh(AR())
    seen = []
    hidden = model.network.hidden

    def counted(inputs, t=None):
        seen.append(inputs.x.shape[1])
        return hidden(inputs, t)

    model.network.hidden = counted
    list(model.decode(model.canvas([[1, 2, 3, *[None] * 13]]), 16))
    assert seen == [4, *[1] * 12]


def test_only_the_windows_columns_are_answered():
    model = fresh(UDLM())
    canvas = model.blank(2)
    t = torch.tensor([[0.7], [0.4]])
    step = Step(Span(torch.tensor([3, 3]), 5), torch.ones(2, dtype=torch.long), 0, t, t / 2)
    with torch.no_grad():
        found = form_of(model.family).reader(model.network)(canvas, step)
        torch.testing.assert_close(found, whole(model.network)(canvas, step), rtol=1e-4, atol=1e-5)


def test_texts_of_any_length_may_be_shorter_than_their_canvas():
    model = fresh(FlexMDM())
    torch.nn.init.constant_(model.network.missing.bias, -2.0)
    *_, canvas = model.decode(model.blank(8), 6)
    lengths = {len(text) for text in model.texts(canvas)}
    assert max(lengths) <= 16
    assert len(lengths) > 1
    assert model.form.written(canvas).shape == (8, 16)
