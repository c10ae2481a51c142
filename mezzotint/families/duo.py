"""Duo: the diffusion duality (Sahoo et al. 2025, arXiv 2506.10892), with psi-samplers (Duo++, arXiv 2602.21185).

Process   processes/uniform.py; its Gaussian twin and the operator T between them: processes/gaussian_argmax.py (sec. 3)
Loss      the Rao-Blackwellised NELBO, sec. 3.3, `nelbo` below: UDLM's integrand with fewer operations over V
Curriculum  sec. 4.1, objectives/duo.py: the network first reads softmax(w / tau) of the Gaussian twin, then tokens;
          as published for OWT tau = 1e-3, first half of training, gamma from -3.55 to -1.85 (LM1B: -3.5 to -1.75)
          `largest`: Duo++'s, which draws only what that softmax is made of.  Differs from its code, which takes x_0 for
          the argmax wherever it is drawn, and never gives the highest noise to the last ids
Distillation  sec. 4.2, objectives/duo.py `Consistency`
Network   softmax over the clean token, conditioned on t
Sampler   the posterior step of UDLM, decode/samplers/psi_samplers.py mixes it with noise anew; optionally from a
          nucleus of p(x_0), and with argmax in the last step ("greedy")
Checked   tests/parity/test_duo.py, test_duo_operator.py (recorded), tests/oracles/test_uniform_bounds.py (enumeration)
"""

from dataclasses import dataclass
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from mezzotint.config import config
from mezzotint.decode.samplers.psi_samplers import Kappa, mixed
from mezzotint.decode.samplers.time_grid import TimeGrid
from mezzotint.decode.shapers import TopP
from mezzotint.families.base import Family, log_p
from mezzotint.objectives.denoising import Denoising
from mezzotint.objectives.duo import Curriculum, LevelLoss, at_levels
from mezzotint.processes.gaussian_argmax import GaussianArgmax
from mezzotint.processes.uniform import Uniform
from mezzotint.rng import Rng, draw
from mezzotint.schedules import Linear, Schedule


@config
class Duo:
    """Uniform diffusion with the Gaussian curriculum."""

    kind: Literal["duo"] = "duo"
    schedule: Schedule = Linear()
    curriculum: int = Field(default=0, ge=0)
    """Batches on the Gaussian twin, counted as they are read; 0 needs no network that reads weights over tokens."""
    tau: float = Field(default=1e-3, gt=0)
    """Temperature of the twin's softmax."""
    largest: int | None = Field(default=None, gt=0)
    """Draw only this many of the twin's largest noises, whatever the vocabulary's size (Duo++)."""
    gamma: tuple[float, float] = (-3.5, -1.75)
    """Noise levels of the twin at t = 0 and t = 1."""
    kappa: Kappa = Kappa()
    """How much of a sampling step is the posterior."""
    nucleus: float = Field(default=1.0, gt=0, le=1)
    """The sampler draws clean tokens from this much of p(x_0)."""
    greedy: bool = False
    """The last step writes the likeliest tokens."""

    def build(self, vocab: int, mask_id: int) -> Family:
        """The family over `vocab` ids, of which [MASK] is never drawn."""
        process = Uniform(vocab, self.schedule, mask_id)
        discrete = Denoising(process, at_levels(nelbo(process), self.schedule))
        update = PsiStep(process, self.kappa, self.nucleus, self.greedy)
        if not self.curriculum:
            return Family(process, discrete, TimeGrid(update))
        twin = GaussianArgmax(process.ids, *self.gamma)
        tau, few = self.tau, self.largest
        lesson = Curriculum(twin, self.schedule, nelbo(process), discrete, self.curriculum, tau, mask_id, few)
        return Family(process, lesson, TimeGrid(update), bound=discrete)


def nelbo(process: Uniform) -> LevelLoss:
    """Sec. 3.3 at any survival and its derivative; sums over the N real ids.

    With y = N alpha x_theta + 1 - alpha, z = x_t, c = (1 - alpha) / (N alpha + 1 - alpha) and [z = x_0] = 1 or 0:
    N (1 / y(true)_z - 1 / y_z) minus the expectation of the log ratios, times alpha' / (N alpha).
    """

    def loss(raw: Tensor, x_0: Tensor, x_t: Tensor, a: Tensor, da: Tensor) -> Tensor:
        n, p0 = process.ids, log_p(raw, process.never).exp()
        # at the clean end 1 - alpha may be less than floats tell from 0, and is divided by
        a, da = a.to(p0.dtype).clamp_max(1 - torch.finfo(p0.dtype).eps), da.to(p0.dtype)
        y = n * a[..., None] * p0 + (1 - a)[..., None]
        logs = y.log()
        if process.never is not None:
            logs = logs.index_fill(-1, torch.tensor(process.never, device=raw.device), 0.0)
        y_z, log_z, log_x = (
            table.gather(-1, tokens[..., None])[..., 0] for table, tokens in ((y, x_t), (logs, x_t), (logs, x_0))
        )
        same = (x_t == x_0).to(p0.dtype)
        c = (1 - a) / (n * a + 1 - a)
        first = n * (1 / (same * n * a + 1 - a) - 1 / y_z)
        second = -(same * c + 1 - same) * (logs.sum(-1) - n * log_z)
        second = second - (1 - same) * n * a / (1 - a) * (log_x - log_z)
        second = second + (same * (n - 1) * c - (1 - same) / c) * c.log()
        return da / (n * a) * (first - second)

    return loss


@dataclass(frozen=True)
class PsiStep:
    """(raw, x_t, t, s, rng) -> x_s, Long[B, L]."""

    process: Uniform
    kappa: Kappa = Kappa()  # noqa: RUF009 - frozen and without state
    mass: float = 1.0
    greedy: bool = False

    def __call__(self, raw: Tensor, x_t: Tensor, t: Tensor, s: Tensor, rng: Rng) -> Tensor:
        p = self.chances(raw, x_t, t, s)
        drawn = draw(p, rng)
        return torch.where(s <= 0, p.argmax(-1), drawn) if self.greedy else drawn

    def chances(self, raw: Tensor, x_t: Tensor, t: Tensor, s: Tensor) -> Tensor:
        """Float64[B, L, V]; to s = 0 nothing stays noise, whatever survival the schedule has there."""
        logp = log_p(raw, self.process.never).double()
        p0 = (logp if self.mass >= 1 else TopP(self.mass).filtered(logp)).softmax(-1)
        a_t = self.process.alpha(t.double())
        a_s = torch.where(s <= 0, 1.0, self.process.alpha(s.double()))
        return mixed(self.process, p0, x_t, (a_t, a_s), self.kappa(a_t, a_s))
