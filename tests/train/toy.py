"""A task small enough to train in a second: regression with dropout, noise and an average worth having."""

from dataclasses import dataclass

import torch
from torch import nn

from mezzotint.objectives.base import Loss
from mezzotint.rng import Rng
from mezzotint.train.task import Task


@dataclass
class Points:
    x: torch.Tensor
    y: torch.Tensor


class Line:
    """Noisy points of a fixed linear map; `poison` makes one micro-batch not a number."""

    def __init__(self, poison=None, size=16):
        self.poison, self.size, self.asked = poison, size, []

    def batch(self, step, seed):
        self.asked.append(step)
        noise = Rng(seed, step).fork(1).uniform((self.size, 4)).float() - 0.5
        x = torch.full_like(noise, torch.nan) if step == self.poison else noise
        return Points(x, x @ torch.tensor([[1.0], [-2.0], [3.0], [0.5]]))


def network(dropout=0.1):
    torch.manual_seed(0)
    frozen = nn.Linear(4, 8)
    frozen.requires_grad_(False)
    return nn.Sequential(frozen, nn.Tanh(), nn.Dropout(dropout), nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 1))


def squared(net, batch, rng):
    jitter = rng.uniform(tuple(batch.x.shape)).float() * 0.01
    error = (net(batch.x + jitter) - batch.y) ** 2
    return Loss(error.mean(), torch.tensor(float(len(batch.x))), metrics={"largest": error.detach().max()})


def task(**changes):
    data = changes.pop("data", None) or Line()
    return Task(changes.pop("network", None) or network(), squared, data, **changes)
