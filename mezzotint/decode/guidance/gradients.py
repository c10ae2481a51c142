"""Plug-and-play control of vectors: energies pull each step's vectors by their gradient (2205.14217, sec. 5.1).

An energy is -log p(c | z_s) up to a constant; energies add up.  After the model's own step to mean and variance of z_s,
a few Adagrad updates lower

    strength-weighted energies + fluency |z_s - mean|^2 / variance,

and the outcome is z_s.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mezzotint.decode.canvas import Canvas, Step
from mezzotint.decode.samplers.embedding_canvas import vectors
from mezzotint.decode.samplers.time_grid import LatentGrid, Rounding
from mezzotint.layouts import Full, Layout
from mezzotint.processes.gaussian import Gaussian, normal
from mezzotint.rng import Rng

Energy = Callable[[Tensor, Tensor], Tensor]
"""(z Float[B, L, E], its time Float[B, 1]) -> Float[B] nats, smaller where the wish is better met."""
Moments = Callable[[Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]
"""(raw, z_t, t, s) -> mean Float[B, L, E] and standard deviation of z_s: `Back.moments`."""


@dataclass(frozen=True)
class GradientGuided:
    """A rule for canvases of vectors whose steps are pulled by energies, which read the whole canvas."""

    moments: Moments
    round: Rounding
    energies: Sequence[Energy]
    rate: float = 0.1
    """Size of an update: 0.1 for content and length, 0.05 for parts of speech in the paper."""
    fluency: float = 0.01
    """lambda: how strongly the model's own mean holds."""
    rounds: int = 3
    """Updates per step."""
    until: float = 0.05
    """Steps that end before this time are the model's alone: the last 10 of 200 in the paper."""

    def __call__(self, raw: Tensor, canvas: Canvas, step: Step, rng: Rng) -> Canvas:
        """The canvas one step later, from raw estimates Float[B, W, E]."""
        columns, latent = step.window.columns(), vectors(canvas)
        open, places = canvas.open.gather(-1, columns)[..., None], columns[..., None].expand(-1, -1, latent.shape[-1])

        def energy(z: Tensor, s: Tensor) -> Tensor:
            whole = latent.scatter(1, places, torch.where(open, z, latent.gather(1, places)))
            return torch.stack([energy(whole, s) for energy in self.energies]).sum(0)

        def update(raw: Tensor, z_t: Tensor, t: Tensor, s: Tensor, rng: Rng) -> Tensor:
            mean, std = self.moments(raw, z_t, t, s)
            z = torch.where(open, mean + std * normal(rng, tuple(mean.shape), mean), z_t)
            return torch.where(
                (s >= self.until)[..., None] & open, self.pulled(z, mean, std, lambda z: energy(z, s)), z
            )

        return LatentGrid(update, self.round)(raw, canvas, step, rng)

    def pulled(self, z: Tensor, mean: Tensor, std: Tensor, energy: Callable[[Tensor], Tensor]) -> Tensor:
        """z Float[B, W, E] after the updates."""
        # where nothing is drawn the published code holds on with a variance of one
        variance, mean = torch.where(std > 0, std**2, torch.ones_like(std)).detach(), mean.detach()
        for _ in range(self.rounds):
            with torch.enable_grad():
                moved = z.detach().requires_grad_(True)
                # a sum over texts, where the published mean would make a text's pull depend on its neighbours
                loss = energy(moved).sum() + self.fluency * ((moved - mean) ** 2 / variance).sum()
                (slope,) = torch.autograd.grad(loss, moved)
            # a fresh Adagrad per update, as published: its accumulated square is that of this gradient
            z = (moved - self.rate * slope / (slope.abs() + 1e-10)).detach()
        return z


@dataclass(frozen=True)
class ClassifierEnergy:
    """-log p(label | z_s) of a classifier trained by `objectives.embedding_denoising.Labels`.

    Labels are Long[B], one per text, for classifiers of texts, or Long[B, L] for those of columns; -1 wants nothing.
    """

    classifier: Any
    labels: Tensor
    strength: float = 1.0
    layout: Layout = Full()  # noqa: RUF009 - frozen and without state

    def __call__(self, z: Tensor, s: Tensor) -> Tensor:
        logp = self.classifier(self.layout.arrange(z, self.labels), s.to(z.dtype)).log_softmax(-1)
        nats = -logp.gather(-1, self.labels.clamp_min(0)[..., None])[..., 0] * (self.labels >= 0)
        return self.strength * nats.reshape(len(nats), -1).sum(-1)


@dataclass(frozen=True)
class Pinned:
    """-log q(z_s | token) at given columns: puts words, or the end of a text, in place without a classifier.

    The paper's length control is this at the column of the end token.  Vectors Float[B, L, E] give nats Float[B].
    """

    process: Gaussian
    columns: Tensor
    """Long[B, n]."""
    tokens: Tensor
    """Long[B, n]."""
    strength: float = 1.0

    def __call__(self, z: Tensor, s: Tensor) -> Tensor:
        a = self.process.alpha(s)[..., None].to(z.dtype)
        here = z.gather(1, self.columns[..., None].expand(-1, -1, z.shape[-1]))
        gap = (here - a.sqrt() * self.process.embed(self.tokens)).square().sum((1, 2))
        lost = (1 - a + a * self.process.spread**2)[:, 0, 0]
        return self.strength * gap / (2 * lost).clamp_min(1e-6)
