"""Noise by a chain of T steps: the discrete-time process of D3PM (2107.03006, sec. 3).

Time t stands at step t T of the chain, so only t = 0, 1 / T, ..., 1 mean something; others go to the nearest.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from mezzotint.processes.base import Process
from mezzotint.processes.markov.chain import MarkovChain
from mezzotint.rng import Rng


class Chained(Process):
    """q(x_t | x_0) of a chain; posteriors are the plug-in ones (eq. 3), products of where x_0 goes and x_t comes from.

    Args:
        chain: the steps.
        floor: added to every probability before its logarithm; 1e-20 in the text code, 1e-6 in the image code.
    """

    def __init__(self, chain: MarkovChain, floor: float = 1e-20) -> None:
        super().__init__()
        self.chain, self.vocab, self.floor = chain, chain.vocab, floor

    def index(self, t: Tensor) -> Tensor:
        """Long[B, 1]: steps of the chain at Float[B, 1] times."""
        return (t * self.chain.steps).round().long()

    def corrupt(self, x_0: Tensor, t: Tensor, rng: Rng) -> Tensor:
        j = self.index(t)
        return self.chain.move(x_0, torch.zeros_like(j), j, rng)

    def prior(self, shape: tuple[int, int], device: torch.device | str | None, rng: Rng) -> Tensor:
        """Long[B, L] from where the chain ends."""
        total = self.chain.stationary.to(device).cumsum(0)
        return torch.searchsorted(total, rng.uniform(shape, device) * total[-1], right=True).clamp_max(self.vocab - 1)

    def back(self, p0: Tensor, x_t: Tensor, s: Tensor, t: Tensor) -> Tensor:
        """log q(x_s | x_t, x_0 ~ p0) up to a constant per column, Float[B, L, V]; any s < t, one step or several."""
        i, j = self.index(s), self.index(t)
        where = self.chain(p0, torch.zeros_like(i), i)
        whence = self.chain.backward(x_t, i, j).to(p0.dtype)
        return (where + self.floor).log() + (whence + self.floor).log()

    def seen(self, raw: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """Logits Float[B, L, V] that also know each column's own token: raw plus log q(x_t | x_0) of every x_0."""
        j = self.index(t)
        return raw + (self.chain.backward(x_t, torch.zeros_like(j), j) + self.floor).log().to(raw.dtype)

    def missed(self, x_0: Tensor, steps: int | None = None) -> Tensor:
        """KL(q(x_T | x_0), prior), Float64[B, L]: what starting from the prior costs; T may be fewer steps."""
        j = torch.full((x_0.shape[0], 1), self.chain.steps if steps is None else steps, device=x_0.device)
        q = self.chain.after(x_0, j)
        return (q * ((q + self.floor).log() - (self.chain.stationary + self.floor).log())).sum(-1)

    def clean(self, x_0: Tensor, dtype: torch.dtype) -> Tensor:
        """Float[B, L, V], all on the token."""
        return F.one_hot(x_0, self.vocab).to(dtype)
