"""Averages of networks that carry trained embeddings: what evaluates and what is saved uses the averaged ones."""

import copy

import pytest
import torch

from mezzotint.batch import Batch
from mezzotint.denoisers.networks.embedding_network import EmbeddingNetworkConfig
from mezzotint.denoisers.networks.small_transformer import TransformerConfig
from mezzotint.denoisers.wrappers import SelfConditioned
from mezzotint.errors import ConfigError
from mezzotint.families.diffusion_lm import DiffusionLM, diffusion_lm
from mezzotint.rng import Rng
from mezzotint.train import checkpoint
from mezzotint.train.loop import run
from mezzotint.train.optim import Optim
from mezzotint.train.task import Task, Train

TOKENS = torch.arange(32).view(4, 8) % 5
HELD = Batch(TOKENS, torch.ones_like(TOKENS, dtype=torch.bool))
STEPS = 8


class Same:
    def batch(self, step, seed):
        return HELD


def fresh():
    torch.manual_seed(0)
    family = DiffusionLM(width=4, steps=STEPS).build(6, 5)
    shape = EmbeddingNetworkConfig(trunk=TransformerConfig(width=16, layers=1, heads=2, timed=True))
    return family, shape.build(family.process)


def nats(family, network):
    with torch.no_grad():
        return float(family.bound(network, HELD, Rng(0)).total)


def test_evaluation_reads_averaged_embeddings_inside_the_loss_too(tmp_path):
    family, network = fresh()
    seen = []

    def evaluate(net):
        seen.append((nats(family, net), family.process.table.detach().clone()))
        return {}

    train = Train(steps=12, eval_every=12, optim=Optim(lr=0.05), ema=0.9)
    run(Task(network, family.objective, Same(), evaluate), train, tmp_path)
    other, averaged = fresh()
    checkpoint.load_weights(checkpoint.saved(tmp_path / "checkpoints")[-1], averaged)
    value, table = seen[-1]
    torch.testing.assert_close(other.process.table, table)
    assert value == pytest.approx(nats(other, averaged), rel=1e-6)
    # the live ones have moved on, and are back in place
    assert not torch.equal(family.process.table, table)


def test_a_copy_of_a_network_needs_a_loss_on_its_own_embeddings():
    family, network = fresh()
    twin = copy.deepcopy(network)
    with torch.no_grad():
        twin.process.table.mul_(2)
    for net in (twin, SelfConditioned(twin, 4)):
        with pytest.raises(ConfigError, match=r"on the network's own process"):
            family.objective(net, HELD, Rng(0))
    assert nats(diffusion_lm(twin.process, STEPS), twin) != nats(family, network)
