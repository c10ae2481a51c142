"""Networks that are told a class, or none: what they learn is the source of that class, or of all."""

import math

import pytest
import torch
from torch import nn

from mezzotint.decode.canvas import infill
from mezzotint.decode.guidance.classifier import FreeGuided, both
from mezzotint.decode.loop import decode
from mezzotint.decode.plan import Blocks
from mezzotint.decode.samplers.time_grid import TimeGrid
from mezzotint.denoisers.networks.small_transformer import TransformerConfig
from mezzotint.errors import ConfigError
from mezzotint.families import udlm
from mezzotint.families.mdlm import MDLM
from mezzotint.layouts import Full
from mezzotint.objectives.class_conditional import Classes
from mezzotint.objectives.embedding_denoising import Labelled
from mezzotint.rng import Rng

P = torch.tensor([[0.8, 0.1, 0.1], [0.1, 0.2, 0.7]])
"""Of three tokens, in texts of each class; both classes are as frequent."""
NONE, MASK = 2, 3


class Table(nn.Module):
    """Logits by class, whatever the text."""

    def __init__(self):
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(3, 4))

    def forward(self, inputs, t):
        return self.logits[inputs.label][:, None].expand(*inputs.x.shape, 4)


def batch(rows, seed):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 2, (rows,), generator=generator)
    tokens = torch.multinomial(P[labels], 2, True, generator=generator)
    return Labelled(tokens, torch.ones_like(tokens, dtype=torch.bool), labels=labels)


def taught(settings, drop):
    net, objective = Table(), Classes(settings.build(4, MASK).objective, NONE, drop)
    optimizer = torch.optim.Adam(net.parameters(), lr=0.1)
    for step in range(150):
        optimizer.param_groups[0]["lr"] = 0.1 * (1 - step / 150)
        optimizer.zero_grad()
        objective(net, batch(512, step), Rng(0, step)).total.backward()
        optimizer.step()
    return net


@pytest.mark.parametrize("settings", [MDLM(weights="even"), udlm.UDLM(weights="even")], ids=lambda s: s.kind)
def test_each_class_and_none_learn_their_own_source(settings):
    learnt = taught(settings, 0.3).logits.detach()[:, :3].softmax(-1)
    torch.testing.assert_close(learnt, torch.cat([P, P.mean(0, keepdim=True)]), rtol=0, atol=0.04)


def test_a_network_asked_for_single_columns_gets_the_same_loss():
    torch.manual_seed(0)
    net = TransformerConfig(width=16, layers=1, heads=2, classes=2).build(4)
    nn.init.normal_(net.head.weight)
    nn.init.normal_(net.told.weight)
    objective = Classes(MDLM(weights="even").build(4, MASK).objective, NONE, 0.3)
    asked = objective(net, batch(64, 0), Rng(0, 0))
    whole = objective(lambda inputs, t: net(inputs, t), batch(64, 0), Rng(0, 0))
    torch.testing.assert_close(asked.total, whole.total)
    asked.total.backward()
    assert net.told.weight.grad.abs().sum(-1).gt(0).all()


def test_labels_need_classes():
    inputs = Full().arrange(torch.zeros(1, 2, dtype=torch.long), torch.zeros(1, 2, dtype=torch.long))
    inputs.label = torch.zeros(1, dtype=torch.long)
    with pytest.raises(ConfigError, match="knows no classes"):
        TransformerConfig(width=16, layers=1, heads=2).build(4)(inputs)


def test_without_drops_nothing_is_learnt_of_no_class():
    learnt = taught(MDLM(weights="even"), 0.0).logits.detach()
    assert not learnt[NONE].any()
    assert learnt[:NONE].abs().sum() > 1


def test_a_guided_sampler_draws_the_class_to_the_power():
    net, settings, rows = taught(udlm.UDLM(weights="even"), 0.3), udlm.UDLM(), 20_000
    process = settings.build(4, MASK).process

    def told(label):
        def denoise(canvas, step):
            inputs = Full().arrange(canvas.tokens, canvas.tokens)
            inputs.label = torch.full((rows,), label)
            return net(inputs, step.t)

        return denoise

    def chances(raw, x_t, t, s):
        return udlm.step(process, raw, x_t, t, s)

    rule = TimeGrid(FreeGuided(chances, 2.0))
    with torch.no_grad():
        canvas = infill([[None]] * rows, process.prior)
        *_, found = decode(canvas, both(told(1), told(NONE)), rule, Blocks(1, 1))
        # a single step from noise leaves p(x_0 | class)^2 / p(x_0)
        wanted = (2 * net.logits[1, :3].log_softmax(-1) - net.logits[NONE, :3].log_softmax(-1)).softmax(-1)
    seen = torch.bincount(found.tokens[:, 0], minlength=3) / rows
    torch.testing.assert_close(seen, wanted, rtol=0, atol=4 / math.sqrt(rows))
