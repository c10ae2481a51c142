"""The bound of a masked chain of T steps, for networks that may also put mass on [MASK] (MDLM, 2406.07524, App. B)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mezzotint.batch import Batch
from mezzotint.layouts import Full
from mezzotint.objectives.base import Loss
from mezzotint.objectives.denoising import Denoising
from mezzotint.objectives.times import DiscreteTimes, Times, whole
from mezzotint.processes.absorbing import Absorbing
from mezzotint.rng import Rng

Predict = Callable[[Tensor, Tensor], Tensor]
"""(raw Float[B, L, V], x_t) -> log p(x_0 | x_t), Float[B, L, V]: the parameterisation."""


@dataclass(frozen=True)
class DiscreteTimeBound:
    """T times the KL divergence of one step, at a time of the grid 1/T, ..., 1.

    Where `predict` carries revealed tokens over, the last step costs nothing; otherwise `reconstruct` adds its
    -log p(x_0 | x at t = 0), which takes a second pass of the network.
    """

    process: Absorbing
    predict: Predict
    steps: int
    reconstruct: bool = False
    times: Times = whole

    def __call__(self, denoiser: Any, batch: Batch, rng: Rng) -> Loss:
        chain = Denoising(self.process, self.token_loss, DiscreteTimes(self.times, self.steps))
        loss = chain(denoiser, batch, rng)
        assert loss.per_token is not None
        if not self.reconstruct:
            return loss
        nats = loss.per_token + self.reconstruction(denoiser, batch)
        return Loss(nats.sum() / loss.count.clamp_min(1), loss.count, nats)

    def token_loss(self, raw: Tensor, x_0: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """Float[B, L]: T times KL(q(x_s | x_t, x_0), p(x_s | x_t)) on masked columns, s = t - 1/T.

        The model's step is the plug-in posterior, q(x_t | x_s) q(x_s | p) / q(x_t | p), so mass that it puts on [MASK]
        keeps the column masked.
        """
        logp = self.predict(raw, x_t)
        t = t.clamp(max=1 - 1e-4)  # as published: at t = 1 nothing survives and a prediction of [MASK] costs nothing
        s = t - 1 / self.steps
        a_t, a_s = self.process.alpha(t), self.process.alpha(s)
        on_mask = logp[..., self.process.mask_id].exp()
        right = logp.gather(-1, x_0[..., None])[..., 0]
        revealed = (a_s - a_t) / (1 - a_t)
        present = torch.log1p(a_t * on_mask / (1 - a_t))
        # at s = 0 nothing is masked: the chance of having stayed so is 0, and its logarithm must stay finite
        before = torch.log1p(a_s * on_mask / (1 - a_s).clamp_min(1e-12))
        stayed = (1 - revealed) * (present - before)
        return self.steps * (revealed * (present - right) + stayed) * (x_t == self.process.mask_id)

    def reconstruction(self, denoiser: Any, batch: Batch) -> Tensor:
        """Float[B, L]: -log p(x_0 | x_0), the network's answer to clean text at t = 0."""
        x_0 = batch.tokens
        raw = denoiser(Full().arrange(x_0, x_0), torch.zeros(x_0.shape[0], 1, device=x_0.device))
        return -self.predict(raw, x_0).gather(-1, x_0[..., None])[..., 0] * batch.target
