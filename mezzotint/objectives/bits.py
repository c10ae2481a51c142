"""How many nats an objective gives windows of held-out text: an exact likelihood, or a bound on it."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mezzotint.batch import Batch
from mezzotint.objectives.base import Objective
from mezzotint.rng import Rng


@dataclass(frozen=True)
class Measured:
    """Nats per token with their standard error over windows."""

    nats: float
    error: float
    tokens: int

    def bits(self, tokens_per_character: float) -> tuple[float, float]:
        """Bits per character, and their standard error."""
        scale = tokens_per_character / math.log(2)
        return self.nats * scale, self.error * scale


@torch.no_grad()
def measure(
    network: nn.Module,
    objective: Objective,
    batches: Sequence[Batch],
    draws: int = 1,
    seed: int = 0,
    tell: Callable[[int], None] = lambda done: None,
) -> Measured:
    """A bound, or an exact likelihood, over windows; each window's noise is drawn `draws` times, always the same.

    `tell` hears after every batch how many there have been.
    """
    network.eval()
    device = next(network.parameters()).device
    means: list[Tensor] = []
    for number, batch in enumerate(batches):
        batch = Batch(batch.tokens.to(device), batch.target.to(device))
        found = []
        for k in range(draws):
            loss = objective(network, batch, Rng(seed, number * draws + k))
            assert loss.per_token is not None
            found.append(loss.per_token.double().sum(-1) / batch.target.sum(-1))
        means.append(torch.stack(found).mean(0).cpu())
        tell(number + 1)
    windows = torch.cat(means)
    error = float(windows.std() / len(windows) ** 0.5) if len(windows) > 1 else math.nan
    return Measured(float(windows.mean()), error, sum(int(batch.target.sum()) for batch in batches))
