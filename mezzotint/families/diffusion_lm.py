"""Diffusion-LM: Gaussian diffusion on word embeddings that learn along (Li et al. 2022, arXiv 2205.14217).

Process   processes/gaussian.py, x_0 ~ N(E w, sigma_0^2): sigma_0^2 is what the first step of the table loses (sec. 4.1)
Noise     processes/gaussian_schedules.py "sqrt" (App. A), T = 2000; its survival is relative to f(0), as in the code
Loss      L_e2e-simple (sec. 4.2, App. E): |x_0 - f(x_t, t)|^2, |E w - f(x_1, 1)|^2 at the first step, plus
          |sqrt(alpha_T) x_0|^2, plus -log p(w | x_0) at the noisy x_0; means over features, one t per text
Network   x_0 itself (sec. 4.2): denoisers/networks/embedding_network.py; rounding p(w | x_0) = softmax(E x_0 + b)
Bound     sum of the exact Gaussian KLs (eq. 1, App. D), of the chain from E w instead of x_0:
          objectives/gaussian_bound.py
Sampler   decode/samplers/ddpm.py: the posterior's step, or DDIM's; f clamped to the nearest embedding (sec. 4.3) from a
          time on; fewer steps with `processes.gaussian_schedules.Respaced` as the plan's times; fixed columns infill:
          decode/samplers/embedding_canvas.py
Control   decode/guidance/gradients.py (sec. 5.1); of several samples the likeliest:
          decode/guidance/minimum_bayes_risk.py (sec. 5.3)
Checked   tests/parity/test_diffusion_lm.py, tests/oracles/test_vectors.py
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from mezzotint.config import config
from mezzotint.decode.samplers.ddpm import GaussianReverse
from mezzotint.decode.samplers.time_grid import LatentGrid
from mezzotint.families.base import Family
from mezzotint.families.forms.embeddings import Latent, features, real
from mezzotint.objectives.embedding_denoising import EmbeddingDenoising, Noised
from mezzotint.objectives.gaussian_bound import GaussianBound
from mezzotint.objectives.times import DiscreteTimes, whole
from mezzotint.processes.gaussian import Gaussian, coefficients, divergence, fresh
from mezzotint.processes.gaussian_schedules import TABLES, Table


@config
class DiffusionLM:
    """Diffusion on learned embeddings."""

    kind: Literal["diffusion_lm"] = "diffusion_lm"
    width: int | None = Field(default=None, gt=0)
    """Features of an embedding; null: 16 up to 1,000 ids (E2E has 821), 128 beyond (ROCStories, 11,043)."""
    table: Literal["sqrt", "linear", "cosine", "trunc_cos", "trunc_lin", "pw_lin"] = "sqrt"
    steps: int = Field(default=2000, gt=1)
    clamp: float = Field(default=1.0, ge=0, le=1)
    """Estimates become embeddings from this time down; 0 never, 1 always."""
    eta: float | None = Field(default=None, ge=0, le=1)
    """Of DDIM's steps; null takes the posterior's."""
    seed: int = 0
    """Of the embeddings' start."""

    def build(self, vocab: int, mask_id: int) -> Family:
        """The family over `vocab` ids, of which no text holds [MASK]."""
        ids, schedule = real(vocab, mask_id), Table.of(TABLES[self.table](self.steps))
        table = fresh(ids, features(self.width, ids, 16, 128), self.seed)
        process = Gaussian(table, schedule, spread=first(schedule), trainable=True)
        return diffusion_lm(process, self.steps, GaussianReverse(process, self.eta, self.clamp))


def diffusion_lm(process: Gaussian, steps: int, back: GaussianReverse | None = None) -> Family:
    """Diffusion-LM on embeddings of any origin, trained at `steps` times."""
    update, times = back or GaussianReverse(process, clamp=1.0), DiscreteTimes(whole, steps)
    loss = EmbeddingDenoising(process, DiffusionLMLosses(process, steps), times)
    bound = EmbeddingDenoising(process, GaussianBound(process, steps), times)
    return Family(
        process,
        loss,
        LatentGrid(update, process.round),
        bound=bound,
        form=Latent(process, steps),
        moments=update.moments,
        logits=False,
    )


def first(schedule: Table) -> float:
    """sigma_0."""
    return math.sqrt(1 - float(schedule.levels[1]))


@dataclass(frozen=True)
class DiffusionLMLosses:
    """(raw, what it answers) -> terms Float[B, L]: the training loss, and `published`'s in bits."""

    process: Gaussian
    steps: int

    def __call__(self, raw: Tensor, x: Noised) -> dict[str, Tensor]:
        target = torch.where(self._begins(x)[..., None], self.process.embed(x.tokens), x.z_0)
        mean = self.process.alpha(torch.ones_like(x.t)).sqrt()[..., None].to(raw.dtype) * x.z_0
        return {"mse": (target - raw).square().mean(-1), "prior": mean.square().mean(-1), "rounding": self._nll(x)}

    def published(self, raw: Tensor, x: Noised) -> dict[str, Tensor]:
        """The code's E2E_KL: bits per feature, all times T; beta for variances, N(E w, sigma_0^2) for the first x_0."""
        process, a_t, a_s = self.process, self.process.alpha(x.t), self.process.alpha(x.t - 1 / self.steps)
        a_1, a_2 = (process.alpha(torch.full_like(x.t, k / self.steps)) for k in (1, 2))
        # the code's first variance, which would be 0, is that of the second step
        floor, small = (
            coefficients(*pair)[2].log().to(process.precision)[..., None] for pair in ((a_2, a_1), (a_t, a_s))
        )
        large = (1 - a_t / a_s).log().to(process.precision)[..., None]
        spread = 2 * torch.as_tensor(process.spread, dtype=torch.float64, device=raw.device).log()
        begun = divergence(process.embed(x.tokens), spread, raw, floor)
        (true, _), (mean, _) = (process.posterior(z, x.z_t, a_t, a_s) for z in (x.z_0, raw))
        kl = torch.where(self._begins(x)[..., None], begun, divergence(true, small, mean, large)).mean(-1)
        a, zero = process.alpha(torch.ones_like(x.t)).to(process.precision)[..., None], torch.zeros_like(x.z_0)
        prior = divergence(a.sqrt().to(raw.dtype) * x.z_0, (1 - a).log().to(raw.dtype), zero, zero)
        terms = {"steps": kl, "prior": prior.mean(-1), "rounding": self._nll(x) / raw.shape[-1]}
        return {name: term * self.steps / math.log(2) for name, term in terms.items()}

    def _begins(self, x: Noised) -> Tensor:
        return x.t * self.steps < 1.5

    def _nll(self, x: Noised) -> Tensor:
        return -self.process.round(x.z_0).gather(-1, x.tokens[..., None])[..., 0]
