"""The autoregressive baseline against a source whose every sequence can be listed."""

import math

import torch

from mezzotint.batch import Batch
from mezzotint.decode.canvas import infill
from mezzotint.decode.loop import decode
from mezzotint.decode.plan import Blocks, multiples
from mezzotint.denoisers.networks.small_transformer import TransformerConfig
from mezzotint.families.ar import AR
from mezzotint.rng import Rng

FIRST = torch.tensor([0.5, 0.3, 0.2])
STEP = torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.6, 0.3], [0.3, 0.3, 0.4]])
FAMILY = AR().build(4, 3)


def exact(inputs, t):
    """Logits after each token read; the id 3 begins a text, and holds mass that the family must not use."""
    table = torch.cat([STEP, FIRST[None]]).log()
    return torch.cat([table, torch.full((4, 1), 2.0)], 1)[inputs.x]


def test_the_loss_is_the_likelihood():
    tokens = torch.tensor([[a, b, c] for a in range(3) for b in range(3) for c in range(3)])
    batch = Batch(tokens, torch.ones_like(tokens, dtype=torch.bool))
    loss = FAMILY.objective(exact, batch, Rng(0))
    p = FIRST[tokens[:, 0]] * STEP[tokens[:, 0], tokens[:, 1]] * STEP[tokens[:, 1], tokens[:, 2]]
    torch.testing.assert_close(loss.per_token.sum(-1), -p.log())
    assert int(loss.count) == 81


def test_single_columns_of_a_network_give_the_same_loss_and_gradients():
    torch.manual_seed(0)
    net = TransformerConfig(width=32, layers=2, heads=2).build(4)
    torch.nn.init.normal_(net.head.weight)
    tokens = torch.randint(0, 3, (3, 7), generator=torch.Generator().manual_seed(1))
    batch = Batch(tokens, torch.rand(3, 7, generator=torch.Generator().manual_seed(2)) < 0.7)
    fast = FAMILY.objective(net, batch, Rng(0))
    slow = FAMILY.objective(lambda inputs, t: net(inputs, t), batch, Rng(0))
    torch.testing.assert_close(fast.total, slow.total)
    torch.testing.assert_close(fast.per_token, slow.per_token)
    one = torch.autograd.grad(fast.total, list(net.parameters()))
    two = torch.autograd.grad(slow.total, list(net.parameters()))
    for a, b in zip(one, two, strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-4)


def test_samples_follow_the_source_and_given_columns_stay():
    rows = 9000
    canvas = infill([[None, None]] * rows, FAMILY.process.prior)

    def denoise(canvas, step):
        inputs = FAMILY.reading.arrange(canvas.tokens, canvas.tokens)
        return exact(inputs, None).gather(1, step.window.columns()[..., None].expand(-1, -1, 4))

    *_, last = decode(canvas, denoise, FAMILY.rule, Blocks(1, place=multiples))
    counts = torch.bincount(last.tokens[:, 0] * 3 + last.tokens[:, 1], minlength=9).float()
    want = rows * (FIRST[:, None] * STEP).flatten()
    assert float(((counts - want) ** 2 / want).sum()) < 26.1
    held = infill([[2, None, 1]] * 50, FAMILY.process.prior)
    *_, last = decode(held, denoise, FAMILY.rule, Blocks(1, place=multiples))
    assert (last.tokens[:, 0] == 2).all()
    assert (last.tokens[:, 2] == 1).all()
    assert not last.open.any()


def test_a_uniform_network_costs_log_n():
    tokens = torch.zeros(2, 5, dtype=torch.long)
    loss = FAMILY.objective(
        lambda inputs, t: torch.zeros(2, 5, 4), Batch(tokens, torch.ones(2, 5, dtype=torch.bool)), Rng(0)
    )
    assert math.isclose(float(loss.total), math.log(3), rel_tol=1e-6)
