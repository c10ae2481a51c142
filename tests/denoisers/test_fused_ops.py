"""Written-out gradients equal those of the plain expressions."""

import pytest
import torch
import torch.nn.functional as F

from mezzotint.denoisers.layers.fused_ops import RMSNorm, gated, rotate


def compare(fused, plain, *tensors):
    """Values and gradients of two functions of the same tensors, along a random direction."""
    found = []
    for function in (fused, plain):
        leaves = [tensor.clone().requires_grad_() for tensor in tensors]
        y = function(*leaves)
        direction = torch.randn(y.shape, generator=torch.Generator().manual_seed(9)).to(y.dtype)
        found.append([y, *torch.autograd.grad((y * direction).sum(), leaves)])
    for one, two in zip(*found, strict=True):
        torch.testing.assert_close(one, two)


def numbers(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(len(shape)), dtype=torch.float64)


def test_rotation():
    angle = numbers(5, 4)
    turn = torch.stack([angle.cos(), angle.sin()])

    def plain(x):
        a, b = x.chunk(2, -1)
        return torch.cat([a * turn[0] - b * turn[1], a * turn[1] + b * turn[0]], -1)

    compare(lambda x: rotate(x, turn), plain, numbers(2, 3, 5, 8))
    compare(lambda x: rotate(x.transpose(1, 2), turn), lambda x: plain(x.transpose(1, 2)), numbers(2, 5, 3, 8))


def test_norm():
    norm = RMSNorm(8).double()

    def fused(x, weight):
        return torch.func.functional_call(norm, {"weight": weight}, (x,))

    compare(fused, lambda x, weight: F.rms_norm(x, (8,), weight, 1e-6), numbers(2, 3, 8), numbers(8))


def test_gate():
    def plain(x):
        a, b = x.chunk(2, -1)
        return F.silu(a) * b

    compare(gated, plain, numbers(4, 3, 10))


@pytest.mark.parametrize("function", [RMSNorm(8), gated], ids=["norm", "gate"])
def test_half_precision_stays(function):
    x = numbers(3, 8).bfloat16().requires_grad_()
    y = function(x)
    y.float().sum().backward()
    assert y.dtype == x.grad.dtype == torch.bfloat16
