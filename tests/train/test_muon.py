"""Muon: orthogonal updates for matrices, AdamW for the rest, and runs that resume to the bit."""

import math

import pytest
import torch
from toy import task

from mezzotint.train import checkpoint
from mezzotint.train.loop import run
from mezzotint.train.muon import Muon, orthogonalised
from mezzotint.train.optim import Constant, Orthogonal
from mezzotint.train.task import Train


@pytest.mark.parametrize("shape", [(16, 16), (8, 40), (40, 8), (1, 12), (64, 65)])
@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])
def test_singular_values_come_near_one(shape, scale):
    matrix = scale * torch.randn(shape, generator=torch.Generator().manual_seed(0))
    left, values, right = torch.linalg.svd(matrix, full_matrices=False)
    got = orthogonalised(matrix, 5)
    # the smallest of a square random matrix are too small to be lifted in five rounds
    large = values > 0.03 * values[0]
    lifted = torch.linalg.svdvals(left.T @ got @ right.T)
    assert (lifted[: int(large.sum())] > 0.6).all()
    assert (torch.linalg.svdvals(got) < 1.3).all()


def test_singular_vectors_stay():
    left, _, right = torch.linalg.svd(torch.randn(12, 20, generator=torch.Generator().manual_seed(1)), False)
    values = torch.linspace(1, 3, 12)
    core = left.T @ orthogonalised(left @ values.diag() @ right, 5) @ right.T
    torch.testing.assert_close(core, core.diagonal().diag(), atol=1e-4, rtol=0)
    assert (core.diagonal() > 0.6).all()


def test_a_zero_gradient_is_no_number_problem():
    assert torch.equal(orthogonalised(torch.zeros(4, 6), 5), torch.zeros(4, 6))


def test_tall_matrices_take_longer_steps():
    """The update of [m, n] is scaled by sqrt(max(1, m / n)), one learning rate for all shapes."""
    steps = {}
    for shape in ((32, 8), (8, 32)):
        weight = torch.nn.Parameter(torch.zeros(shape))
        optimizer = Muon([{"params": [weight], "orthogonal": True}], lr=0.1)
        weight.grad = torch.randn(shape, generator=torch.Generator().manual_seed(2))
        want = orthogonalised(weight.grad * 1.95, 4)
        optimizer.step()
        steps[shape] = (-weight.detach() / want / 0.1).mean()
    torch.testing.assert_close(steps[32, 8], torch.tensor(2.0), atol=1e-3, rtol=0)
    torch.testing.assert_close(steps[8, 32], torch.tensor(1.0), atol=1e-3, rtol=0)


def test_vectors_are_trained_as_adamw_would():
    generator = torch.Generator().manual_seed(3)
    start = torch.randn(7, generator=generator)
    ours, theirs = torch.nn.Parameter(start.clone()), torch.nn.Parameter(start.clone())
    numbers = {"betas": (0.9, 0.98), "eps": 1e-8, "weight_decay": 0.1}
    muon = Muon([{"params": [ours], **numbers}], lr=0.01)
    adamw = torch.optim.AdamW([theirs], lr=0.01, **numbers)
    for _ in range(5):
        ours.grad = torch.randn(7, generator=generator)
        theirs.grad = ours.grad.clone()
        muon.step()
        adamw.step()
    torch.testing.assert_close(ours, theirs)


def test_matrices_and_vectors_are_told_apart():
    network = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.LayerNorm(8))
    optimizer = Orthogonal(lr=0.5, vectors=0.1).build(dict(network.named_parameters()))
    matrices, others = optimizer.param_groups
    assert [tuple(p.shape) for p in matrices["params"]] == [(8, 4)]
    assert matrices["orthogonal"]
    assert len(others["params"]) == 3
    assert (others["orthogonal"], others["scale"], others["weight_decay"]) == (False, 0.1, 0.0)
    Orthogonal(lr=0.5, shape=Constant(warmup=0)).set_rate(optimizer, 0.5)
    assert [group["lr"] for group in optimizer.param_groups] == [0.5, 0.5]


@pytest.mark.parametrize("cut", [1, 5, 9])
def test_a_resumed_run_is_the_uninterrupted_one_to_the_bit(tmp_path, cut):
    def weights(folder):
        return torch.cat([p.flatten() for p in final[folder].parameters() if p.requires_grad])

    def train(folder, steps, resume=False):
        made = task()
        shape = Constant(warmup=0.0)
        run(made, Train(steps=steps, optim=Orthogonal(lr=0.05, shape=shape)), tmp_path / folder, resume=resume)
        final[folder] = made.network

    final = {}
    train("whole", 12)
    train("cut", cut)
    train("cut", 12, resume=True)
    assert torch.equal(weights("cut"), weights("whole"))
    assert len(checkpoint.saved(tmp_path / "cut" / "checkpoints")) > 0


def test_muon_learns_what_there_is_to_learn(tmp_path):
    done = {}

    def evaluate(network):
        x = torch.rand(256, 4, generator=torch.Generator().manual_seed(0)) - 0.5
        y = x @ torch.tensor([[1.0], [-2.0], [3.0], [0.5]])
        done[len(done)] = float(((network(x) - y) ** 2).mean())
        return {"error": done[len(done) - 1]}

    run(task(evaluate=evaluate), Train(steps=60, eval_every=1, optim=Orthogonal(lr=0.05)), tmp_path)
    assert math.isfinite(done[len(done) - 1])
    assert done[len(done) - 1] < 0.3 * done[0]
