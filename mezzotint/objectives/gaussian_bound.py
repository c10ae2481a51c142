"""The bound of a Gaussian chain that runs from the embeddings of tokens.

    q(x_s | x_t, w) for all s < t, x_0 included, with an estimate of E w in place of E w,   then p(w | x_0)

Where around its embedding x_0 lies is asked of nobody, as it would be of a network that answers with x_0 itself
(Diffusion-LM, 2205.14217, App. D): a precise answer to that is worth nothing, and learned last.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from mezzotint.objectives.embedding_denoising import Noised
from mezzotint.processes.gaussian import Gaussian, divergence


@dataclass(frozen=True)
class GaussianBound:
    """(raw Float[B, L, E], what it answers) -> terms in nats, Float[B, L], of a chain of `steps` times.

    The expectation of their sum over the times k / steps and over the noise lies above -log p of a text that is written
    by these very steps, its tokens drawn from p(w | x_0).  Samplers that step towards an estimate of x_0, clamp it or
    take the likeliest tokens, as the papers' do, write other probabilities.
    """

    process: Gaussian
    steps: int
    sure: float = 0.99
    """The chance, by a column's own noisy vector alone, from which its token is taken for known."""

    def __call__(self, raw: Tensor, x: Noised) -> dict[str, Tensor]:
        """Of Gaussians with means along E w, the KL of a step is |E w - estimate|^2 times half of what the
        signal-to-noise ratio gains by it (2107.00630, eq. 14), here of x_t around E w.
        """
        embedded = self.process.embed(x.tokens)
        error = (embedded - self._estimate(raw, x)).square().sum(-1)
        (a_s, v_s), (a_t, v_t) = (self.process.around(t) for t in (x.t - 1 / self.steps, x.t))
        gain = (a_s / v_s - a_t / v_t).to(error.dtype) / 2
        rounding = -self.process.round(x.z_0).gather(-1, x.tokens[..., None])[..., 0]
        return {"steps": self.steps * gain * error, "prior": self._prior(embedded, x.t), "rounding": rounding}

    def _estimate(self, raw: Tensor, x: Noised) -> Tensor:
        """Float[B, L, E] of E w: the network's, or the column's own where that alone says which token it is."""
        own = self.process.alone(x.z_t, x.t).exp()
        return torch.where(own.amax(-1, keepdim=True) > self.sure, own @ self.process.table, raw)

    def _prior(self, embedded: Tensor, t: Tensor) -> Tensor:
        """KL(q(x_1 | w), N(0, I)), x_1 being the noisiest."""
        a, variance = (part[..., None].to(embedded.dtype) for part in self.process.around(torch.ones_like(t)))
        zero = torch.zeros_like(variance)
        return divergence(a.sqrt() * embedded, variance.log(), zero, zero).sum(-1)
