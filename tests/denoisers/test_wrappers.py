"""Wrappers change what a network is asked, and nothing else."""

import pytest
import torch
from torch import nn

from mezzotint.denoisers.networks.embedding_network import EmbeddingNetworkConfig
from mezzotint.denoisers.networks.small_transformer import TransformerConfig
from mezzotint.denoisers.wrappers import ClassifierFree, SelfConditioned, Ungiven, taken
from mezzotint.errors import ConfigError
from mezzotint.layouts import Attend, Full, Inputs
from mezzotint.processes.gaussian import Gaussian, fresh, normal
from mezzotint.rng import Rng
from mezzotint.schedules import Cosine

WIDTH, ROWS, COLUMNS = 3, 64, 5
SHAPE = TransformerConfig(width=16, layers=1, heads=2, timed=True)


class Adding(nn.Module):
    """z + 10 estimate + 1, and a record of what it was asked."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))
        self.asked = []

    def forward(self, inputs, t):
        self.asked.append((inputs.x, t, torch.is_grad_enabled()))
        z, estimate = inputs.x.split(WIDTH, -1)
        return self.weight * (z + 10 * estimate + 1)


def inputs(width=WIDTH, rows=ROWS, seed=0):
    x = normal(Rng(seed), (rows, COLUMNS, width), torch.zeros(()))
    return Full().arrange(x, x)


def level(rows=ROWS):
    return torch.full((rows, 1), 0.5)


def test_an_estimate_that_is_given_is_read_once():
    net = Adding()
    both = inputs(2 * WIDTH)
    SelfConditioned(net, WIDTH)(both, level())
    assert len(net.asked) == 1
    assert net.asked[0][0] is both.x


def test_in_evaluation_the_second_pass_reads_the_first():
    given = inputs()
    raw = SelfConditioned(Adding(), WIDTH).eval()(given, level())
    torch.testing.assert_close(raw, given.x + 10 * (given.x + 1) + 1)


def test_half_of_the_rows_are_trained_on_an_estimate_and_none_sends_gradients_through_it():
    net, given = Adding(), inputs(rows=1000)
    raw = SelfConditioned(net, WIDTH).train()(given, level(1000))
    (first, _, free), (second, _, grads) = net.asked
    assert not free
    assert grads
    read = second[..., WIDTH:].flatten(1).any(-1)
    assert len(first) == int(read.sum())
    assert 0.44 < float(read.float().mean()) < 0.56
    torch.testing.assert_close(second[read][..., WIDTH:], given.x[read] + 1)
    raw.sum().backward()
    want = (given.x + 10 * second[..., WIDTH:] + 1).sum()
    torch.testing.assert_close(net.weight.grad, want)


@pytest.mark.parametrize(("share", "passes"), [(0.0, 1), (1.0, 2)])
def test_no_share_and_the_whole_share(share, passes):
    net = Adding()
    SelfConditioned(net, WIDTH, share).train()(inputs(), level())
    assert len(net.asked) == passes
    with pytest.raises(ConfigError, match="cannot condition a share"):
        SelfConditioned(net, WIDTH, 1.5)


def test_a_row_tosses_its_own_coin():
    net, given = Adding(), inputs()
    wrapper = SelfConditioned(net, WIDTH).train()
    together = wrapper(given, level())
    alone = torch.cat([wrapper(taken(given, torch.tensor([row])), level(1)) for row in range(ROWS)])
    torch.testing.assert_close(together, alone)


class Doubling(nn.Module):
    """Twice what it reads, and a record of how often it was asked."""

    asked = 0

    def forward(self, inputs, t):
        self.asked += 1
        return 2 * inputs.x


def halved(inputs, t):
    return Inputs(inputs.x / 2, inputs.positions, inputs.attend), t


@pytest.mark.parametrize(("scale", "factor", "passes"), [(1.0, 2.0, 1), (0.0, 1.0, 1), (3.0, 4.0, 2)])
def test_guidance_goes_from_without_to_with_and_beyond(scale, factor, passes):
    net, given = Doubling(), inputs()
    raw = ClassifierFree(net, halved, scale).eval()(given, level())
    torch.testing.assert_close(raw, factor * given.x)
    assert net.asked == passes


def test_every_row_may_have_a_scale_of_its_own():
    given, scale = inputs(rows=2), torch.tensor([[1.0], [3.0]])
    raw = ClassifierFree(Doubling(), halved, scale).eval()(given, level(2))
    torch.testing.assert_close(raw, torch.tensor([2.0, 4.0])[:, None, None] * given.x)


def test_while_training_some_rows_lose_their_condition_and_keep_their_place():
    given = inputs(rows=2000)
    raw = ClassifierFree(Doubling(), halved, 3.0, share=0.25).train()(given, level(2000))
    factor = (raw / given.x)[:, 0, 0]
    torch.testing.assert_close(raw, factor[:, None, None] * given.x)
    bare = (factor - 1).abs() < 1e-4
    assert bool((bare | ((factor - 2).abs() < 1e-4)).all())
    assert 0.21 < float(bare.float().mean()) < 0.29


def test_conditions_are_dropped_with_the_estimate():
    given = inputs(2 * WIDTH, rows=2)
    t = torch.tensor([[0.5, 0, 0.5, 0, 0.5]]).expand(2, -1)
    bare, told = Ungiven(WIDTH)(given, t)
    assert bool((told == 0.5).all())
    assert not bare.x[..., WIDTH:].any()
    assert not bare.x[:, [1, 3]].any()
    torch.testing.assert_close(bare.x[:, ::2, :WIDTH], given.x[:, ::2, :WIDTH])


def test_rows_are_taken_with_all_that_belongs_to_them():
    valid = torch.rand(ROWS, COLUMNS) > 0.5
    whole = Inputs(inputs().x, torch.arange(COLUMNS).expand(ROWS, -1), Attend(COLUMNS, COLUMNS, valid=valid))
    some = taken(whole, torch.tensor([3, 1]))
    torch.testing.assert_close(some.x, whole.x[[3, 1]])
    assert torch.equal(some.attend.valid, valid[[3, 1]])
    assert some.positions.shape == (2, COLUMNS)


def network(**more):
    torch.manual_seed(0)
    process = Gaussian(fresh(7, WIDTH), Cosine(), trainable=True)
    return EmbeddingNetworkConfig(trunk=SHAPE, **more).build(process)


def test_estimates_of_zeros_are_no_estimates():
    net, given = network(conditions=True).eval(), inputs()
    empty = Inputs(torch.cat([given.x, torch.zeros_like(given.x)], -1), given.positions, given.attend)
    torch.testing.assert_close(net(empty, level()), net(given, level()))


def test_a_column_is_given_by_its_time():
    net, given = network(conditions=True).eval(), inputs(rows=2)
    t = torch.full((2, COLUMNS), 0.5)
    known = t.clone()
    known[:, 1] = 0
    assert not torch.allclose(net(given, t), net(given, known))


def test_nothing_is_estimated_of_a_given_column():
    net, both = network(conditions=True).eval(), inputs(2 * WIDTH, rows=2)
    known = torch.full((2, COLUMNS), 0.5)
    known[:, 1] = 0
    other = both.x.clone()
    other[:, 1, WIDTH:] = 7
    torch.testing.assert_close(net(both, known), net(Full().arrange(other, other), known))


def test_the_process_learns_with_the_network():
    names = {name for name, x in network().named_parameters() if x.requires_grad}
    assert {"process.table", "process.head.bias"} <= names
    assert not any("embed" in name for name in names)


@pytest.mark.parametrize(
    ("wrong", "sentence"), [("time", "must be given the time"), ("estimate", "reads no estimates")]
)
def test_what_a_network_on_vectors_needs(wrong, sentence):
    width = 2 * WIDTH if wrong == "estimate" else WIDTH
    with pytest.raises(ConfigError, match=sentence):
        network()(inputs(width), None if wrong == "time" else level())
    with pytest.raises(ConfigError, match="timed=true"):
        EmbeddingNetworkConfig(trunk=TransformerConfig(width=16, heads=2)).build(Gaussian(fresh(7, WIDTH), Cosine()))
