"""The path every likelihood-trained family shares: corrupt, hold, arrange, denoise, weigh."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from mezzotint.batch import Batch
from mezzotint.layouts import Full, Layout
from mezzotint.objectives.base import Loss
from mezzotint.objectives.times import Times, whole
from mezzotint.processes.base import Process
from mezzotint.rng import Rng

TokenLoss = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
"""(raw Float[B, L, *], x_0, x_t, t) -> nats Float[B, L]; where a paper's weights live."""


@dataclass(frozen=True)
class Denoising:
    """Noise a batch, ask the denoiser, and weigh its answers by the family's token loss.

    `Loss.total` is a mean over all target tokens, corrupted or not, so that with a bound's weights it is the bound in
    nats per token.
    """

    process: Process
    token_loss: TokenLoss
    times: Times = whole
    layout: Layout = Full()  # noqa: RUF009 - frozen and without state

    def __call__(self, denoiser: Any, batch: Batch, rng: Rng) -> Loss:
        t = self.times(batch, rng)
        x_t = self.process.corrupt(batch.tokens, t, rng)
        x_t = self.process.hold(x_t, batch.tokens, ~batch.target)
        raw = self.layout.extract(denoiser(self.layout.arrange(x_t, batch.tokens), t))
        nats = self.token_loss(raw, batch.tokens, x_t, t) * batch.target
        count = batch.target.sum()
        return Loss(nats.sum() / count.clamp_min(1), count, nats)
