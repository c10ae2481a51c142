"""The likeliest token of each column and its probability: the pass over the vocabulary that every greedy step makes.

Kernels that do it in one go put themselves here when they are loaded; what they find differs by rounding alone.
"""

from collections.abc import Callable

import torch
from torch import Tensor

Best = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Float[..., V] -> Long[...], the argmax, ties to the lowest id, and Float[...], its probability."""

_kernels: list[Best] = []


def use(kernel: Best) -> None:
    """From now on for float32 on a CPU, without gradients."""
    _kernels[:] = [kernel]


def best(logits: Tensor) -> tuple[Tensor, Tensor]:
    """The likeliest token of each Float[..., V], Long[...], and its probability, Float[...]; ties to the lowest id."""
    plain = logits.device.type == "cpu" and logits.dtype == torch.float32 and not logits.requires_grad
    if plain and _kernels and not torch.compiler.is_compiling():
        return _kernels[0](logits)
    # 1 / sum(exp(z - max z)) is the probability of the maximum; no softmax over V is kept
    tokens = first_largest(logits)
    odds = (logits - logits.gather(-1, tokens[..., None])).exp_()
    return tokens, odds.sum(-1).reciprocal_()


def first_largest(logits: Tensor) -> Tensor:
    """Long[...], the argmax of Float[..., V]; ties go to the lowest id."""
    if logits.device.type == "cpu" and logits.dtype == torch.float32:
        # numpy's is ten times faster than torch's
        return torch.from_numpy(logits.detach().numpy().argmax(-1))
    return logits.argmax(-1)
