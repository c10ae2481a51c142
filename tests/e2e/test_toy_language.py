"""A toy language, "count upward mod 7", is learned in seconds, and no bound falls below its entropy."""

import math

import torch

from mezzotint.batch import Batch
from mezzotint.decode.canvas import write
from mezzotint.decode.loop import decode
from mezzotint.decode.plan import Blocks
from mezzotint.denoisers.networks.small_transformer import TransformerConfig
from mezzotint.families.mdlm import MDLM
from mezzotint.layouts import Full
from mezzotint.rng import Rng, uniform
from mezzotint.train.loop import run
from mezzotint.train.optim import Optim
from mezzotint.train.task import Task, Train

COUNT, LENGTH, MASK = 7, 12, 7


class Counting:
    def batch(self, step, seed):
        start = torch.tensor(uniform(seed, step, torch.arange(64).numpy()) * COUNT).long()
        tokens = (start[:, None] + torch.arange(LENGTH)) % COUNT
        return Batch(tokens, torch.ones_like(tokens, dtype=torch.bool))


def test_counting_is_learned_sampled_and_bounded(tmp_path):
    torch.manual_seed(0)
    family = MDLM().build(COUNT + 1, MASK)
    network = TransformerConfig(width=32, layers=2, heads=2).build(COUNT + 1)
    train = Train(steps=300, optim=Optim(lr=5e-3, weight_decay=0), log_every=100)
    run(Task(network, family.objective, Counting()), train, tmp_path)
    network.eval()

    def denoise(canvas, step):
        return network(Full().arrange(canvas.tokens, canvas.tokens))

    with torch.no_grad():
        *_, canvas = decode(write([[]] * 64, LENGTH, family.process.prior), denoise, family.rule, Blocks(LENGTH, 192))
        steps = canvas.tokens.diff(dim=1) % COUNT == 1
        losses = [family.objective(network, Counting().batch(i, 99), Rng(99, i)).total for i in range(50)]
    assert float(steps.double().mean()) > 0.95
    bound, entropy = float(torch.stack(losses).mean()), math.log(COUNT) / LENGTH
    assert 0.97 * entropy < bound < 1.6 * entropy  # 3 % is two standard errors of the estimate
