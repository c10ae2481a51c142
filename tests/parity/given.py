"""Recorded randomness: noise, times and noisy tokens that a test gives instead of drawing them."""

from dataclasses import dataclass

import torch

from mezzotint.batch import Batch
from mezzotint.processes.absorbing import Absorbing


@dataclass(frozen=True)
class Uniforms:
    """Noise that is one recorded tensor, whatever its source is asked for."""

    values: torch.Tensor

    def uniform(self, shape, device=None):
        return self.values.double().reshape(shape)

    def fork(self, name):
        return self


def raced(p, rng):
    """A draw as the recorded code makes it, by a race of exponentials with a number for every token."""
    return (p.double() / -rng.uniform(tuple(p.shape), p.device).log()).argmax(-1)


class Noised(Absorbing):
    """The absorbing process, met at recorded noisy tokens."""

    def __init__(self, vocab, mask_id, schedule, x_t):
        super().__init__(vocab, mask_id, schedule)
        self.x_t = x_t

    def corrupt(self, x_0, t, rng):
        return self.x_t


class Fixed(torch.nn.Module):
    """A network whose logits are recorded, whatever it reads; it can be asked for single columns."""

    def __init__(self, logits):
        super().__init__()
        self.logits = logits
        self.head = torch.nn.Linear(logits.shape[-1], logits.shape[-1], bias=False, dtype=logits.dtype)
        torch.nn.init.eye_(self.head.weight)

    def forward(self, inputs, t):
        return self.logits

    def hidden_at(self, inputs, t, rows):
        return self.logits.flatten(0, 1)[rows]


def batch_of(golden, tokens="x0", valid="attention_mask"):
    return Batch(golden[tokens], golden[valid].bool())


def ticked(golden, outputs, **tolerances):
    """Check every named output, some within a tolerance of their own, and return the names, sorted."""
    for name, value in outputs.items():
        golden.check(name, value, **tolerances.get(name, {}))
    return sorted(outputs)
