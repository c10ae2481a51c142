"""The loss that scores only what counts equals the readable one, and keeps no logits of the whole batch."""

import pytest
import torch
import torch.nn.functional as F

from mezzotint.batch import Batch
from mezzotint.denoisers.networks.dit import DiTConfig
from mezzotint.denoisers.networks.small_transformer import TransformerConfig
from mezzotint.families.ar import AR
from mezzotint.families.mdlm import MDLM
from mezzotint.objectives import chunked_cross_entropy
from mezzotint.objectives.chunked_cross_entropy import cross_entropy
from mezzotint.objectives.masked_bound import Bound
from mezzotint.rng import Rng
from mezzotint.schedules import Cosine, Linear, Polynomial

VOCAB, MASK = 11, 10
NETWORKS = {
    "transformer": lambda: TransformerConfig(width=32, layers=2, heads=2).build(VOCAB),
    "one layer": lambda: TransformerConfig(width=32, layers=1, heads=2).build(VOCAB),
    "timed": lambda: TransformerConfig(width=32, layers=2, heads=2, timed=True).build(VOCAB),
    "dit": lambda: DiTConfig(width=32, layers=2, heads=2, condition=8, dropout=0.0).build(VOCAB),
    "timed dit": lambda: DiTConfig(width=32, layers=2, heads=2, condition=8, dropout=0.0).build(VOCAB, lambda t: 9 * t),
}


@pytest.fixture(params=NETWORKS)
def network(request):
    torch.manual_seed(0)
    net = NETWORKS[request.param]()
    for parameter in net.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.3)
    return net


@pytest.fixture
def batch():
    tokens = torch.randint(0, MASK, (5, 9), generator=torch.Generator().manual_seed(1))
    target = torch.ones_like(tokens, dtype=torch.bool)
    target[1, :4] = False
    return Batch(tokens, target)


def same(fast, slow, network):
    torch.testing.assert_close(fast.total, slow.total)
    torch.testing.assert_close(fast.per_token, slow.per_token)
    assert fast.count == slow.count
    parameters = [p for p in network.parameters() if p.requires_grad]
    found = [torch.autograd.grad(loss.total, parameters, allow_unused=True) for loss in (fast, slow)]
    for one, two in zip(*found, strict=True):
        # what no gradient reaches may be None in one and zero in the other
        torch.testing.assert_close(*(torch.zeros(()) if g is None else g for g in (one, two)), rtol=1e-4, atol=5e-5)


@pytest.mark.parametrize(
    "family", [MDLM(), MDLM(schedule="cosine"), MDLM(importance=True)], ids=["bound", "cosine", "even"]
)
def test_mdlm(network, batch, family):
    objective = family.build(VOCAB, MASK).objective
    fast, slow = objective(network, batch, Rng(2)), objective.reference(network, batch, Rng(2))
    assert fast.total > 0
    same(fast, slow, network)


def test_autoregression(batch):
    torch.manual_seed(0)
    network = NETWORKS["transformer"]()
    torch.nn.init.normal_(network.head.weight)
    objective = AR().build(VOCAB, MASK).objective
    same(objective(network, batch, Rng(0)), objective(lambda inputs, t: network(inputs, t), batch, Rng(0)), network)


def test_chunks_do_not_change_the_sum(batch, monkeypatch):
    torch.manual_seed(0)
    network = NETWORKS["dit"]()
    torch.nn.init.normal_(network.head.weight)
    objective = MDLM().build(VOCAB, MASK).objective
    whole = objective(network, batch, Rng(2))
    monkeypatch.setattr(chunked_cross_entropy, "CHUNK", 4)
    same(objective(network, batch, Rng(2)), whole, network)


def test_nothing_corrupted_costs_nothing(network, batch):
    objective = MDLM().build(VOCAB, MASK).objective
    batch.target = torch.zeros_like(batch.target)
    loss = objective(network, batch, Rng(0))
    loss.total.backward()
    assert loss.total == 0
    assert not any(p.grad.any() for p in network.parameters() if p.grad is not None)


def test_only_columns_that_count_pass_the_head(network, batch):
    rows = []
    network.head.register_forward_hook(lambda *_: rows.append("whole"))
    objective = MDLM().build(VOCAB, MASK).objective
    objective(network, batch, Rng(2))
    assert not rows
    objective.reference(network, batch, Rng(2))
    assert rows == ["whole"]


def test_no_tensor_of_all_logits_is_kept(batch):
    """Of what autograd saves, nothing is as large as the corrupted columns' logits."""
    vocab = 5000
    torch.manual_seed(0)
    network = TransformerConfig(width=32, layers=1, heads=2).build(vocab)
    tokens = torch.randint(0, vocab - 1, (8, 64))
    batch = Batch(tokens, torch.ones_like(tokens, dtype=torch.bool))
    objective = MDLM().build(vocab, vocab - 1).objective
    sizes = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: sizes.append(x.numel()) or x, lambda x: x):
        loss = objective(network, batch, Rng(0))
    corrupted = int((loss.per_token > 0).sum())
    assert corrupted > chunked_cross_entropy.CHUNK / 2
    assert max(sizes) <= vocab * 32 < corrupted * vocab


def test_autocast_runs_the_matrices_in_bfloat16_and_sums_in_float32(batch):
    torch.manual_seed(0)
    network = NETWORKS["transformer"]()
    torch.nn.init.normal_(network.head.weight)
    objective = MDLM().build(VOCAB, MASK).objective
    exact = objective(network, batch, Rng(2))
    with torch.autocast("cpu", torch.bfloat16):
        rough = objective(network, batch, Rng(2))
    rough.total.backward()
    assert rough.total.dtype == torch.float32
    assert all(p.grad.dtype == torch.float32 for p in network.parameters())
    torch.testing.assert_close(rough.total, exact.total, rtol=0.03, atol=0)


def test_the_weighted_sum_and_its_gradients_in_float64():
    generator = torch.Generator().manual_seed(0)
    head = torch.nn.Linear(6, VOCAB, dtype=torch.float64)
    h = torch.randn(20, 6, dtype=torch.float64, generator=generator, requires_grad=True)
    wanted, weight = torch.randint(0, MASK, (20,), generator=generator), torch.rand(20, dtype=torch.float64)
    total, nats = cross_entropy(h, head, wanted, weight, MASK)
    raw = head(h).index_fill(-1, torch.tensor([MASK]), -torch.inf)
    expected = F.cross_entropy(raw, wanted, reduction="none")
    torch.testing.assert_close(nats, expected)
    leaves = [h, head.weight, head.bias]
    for one, two in zip(
        torch.autograd.grad(3 * total, leaves), torch.autograd.grad(3 * (weight * expected).sum(), leaves), strict=True
    ):
        torch.testing.assert_close(one, two)


@pytest.mark.parametrize("schedule", [Linear(eps=0), Cosine(eps=0), Polynomial(power=2.0, eps=0)], ids=repr)
def test_the_bounds_weight_is_a_number_down_to_no_noise(schedule):
    t = torch.tensor([[1e-9], [1e-7], [1e-4], [0.5]])
    weight = Bound(schedule)(t)
    assert bool(weight.isfinite().all())
    exact = t.double()[2:]
    torch.testing.assert_close(
        weight[2:].double(), -schedule.dalpha(exact) / (1 - schedule.alpha(exact)), rtol=1e-6, atol=0
    )
