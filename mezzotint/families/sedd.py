"""SEDD: score entropy discrete diffusion (Lou, Meng, Ermon 2023, arXiv 2310.16834).

Process   q(x_t | x_0) keeps a token with alpha = exp(-sigma), else draws it from the limit: [MASK] ("absorb",
          processes/absorbing.py) or any id ("uniform", processes/uniform.py); both are processes/score_noise.py
Network   log scores s_y = log p_t(y) / p_t(x_t), given t; sec. 3.2 and App. C.2: 0 at the present token; for absorbing
          noise minus log(e^sigma - 1) minus log(V - 1), `Scaled`; for uniform noise `Mixed`, where the paper has no
          scale and an error at the noise end counts up to 1 / eps times (`scaled=false`).  A network that answers
          p(x_0) instead: `Ratios`, where s_y = log x_0 + log(alpha / (1 - alpha)) on masks is MDLM's loss
Loss      eq. 5, denoising score entropy with exact weights, times sigma'(t), t in [1e-3, 1]; not zero at the optimum
Schedule  "linear" is the code's log-linear one; "geometric" has low=1e-4 there, 1e-5 in the paper, and high=20 in both
Sampler   decode/samplers/score_reverse.py, Theorem 4.2 (analytic, "Tweedie") or eq. 17 (Euler); the last step is
          analytic to alpha = 1 without [MASK]
Bound     the loss over all t; with exact scores it is -log p (up to the survival left at t = 1)
Checked   tests/parity/test_sedd.py (recorded), tests/oracles/test_scores.py (enumeration, conversion, chi-square)
"""

from dataclasses import dataclass, replace
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from mezzotint.config import config
from mezzotint.decode.samplers.score_reverse import Reading, ScoreReverse, analytic, euler
from mezzotint.decode.samplers.time_grid import TimeGrid
from mezzotint.errors import ConfigError
from mezzotint.families.base import Family, log_p
from mezzotint.objectives.denoising import Denoising
from mezzotint.objectives.times import Clipped, whole
from mezzotint.processes.absorbing import Absorbing
from mezzotint.processes.base import Discrete
from mezzotint.processes.score_noise import ScoreNoise, masking, spreading
from mezzotint.processes.score_parameterisation import Mixed, Scaled, present
from mezzotint.processes.uniform import Uniform
from mezzotint.schedules import Linear, Schedule, Survival, noise_rate

EARLIEST = 1e-3


@config
class SEDD:
    """Score entropy discrete diffusion."""

    kind: Literal["sedd"] = "sedd"
    schedule: Schedule = Linear()
    noise: Literal["absorb", "uniform"] = "absorb"
    answers: Literal["scores", "tokens"] = "scores"
    """What the network's output means: log scores, or logits of the clean token, turned into scores."""
    scaled: bool = True
    """Take the noise level out of log scores; false: the output as it is, as published for uniform noise."""
    sampler: Literal["analytic", "euler"] = "analytic"

    def build(self, vocab: int, mask_id: int) -> Family:
        """The family over `vocab` ids, [MASK] included; uniform noise never draws it.

        Raises:
            ConfigError: a schedule without survival at t = 1, where scores are not finite.
        """
        if float(self.schedule.alpha(torch.ones((), dtype=torch.float64))) <= 0:
            raise ConfigError("scores need some survival at t = 1: give the schedule an eps above 0")
        absorbing = self.noise == "absorb"
        process = Absorbing(vocab, mask_id, self.schedule) if absorbing else Uniform(vocab, self.schedule, mask_id)
        noise = masking(vocab, mask_id) if absorbing else spreading(vocab, mask_id)
        scaled = Scaled(self.schedule) if absorbing else Mixed(self.schedule, mask_id)
        raw = scaled if self.scaled else present
        reading = raw if self.answers == "scores" else Ratios(noise, self.schedule, mask_id)
        step = {"analytic": analytic, "euler": euler}[self.sampler](noise, self.schedule)
        made = sedd(process, noise, reading, ScoreReverse(noise, reading, step, mask_id, self.schedule))
        return replace(made, logits=self.answers == "tokens")


def sedd(process: Discrete, noise: ScoreNoise, reading: Reading, back: ScoreReverse) -> Family:
    """SEDD on a process and the noise it is made of."""

    def token_loss(raw: Tensor, x_0: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        raw = raw.to(torch.promote_types(raw.dtype, torch.float32))
        exact = t.double()
        nats = noise.entropy(reading(raw, x_t, t), x_0, x_t, process.alpha(exact))
        return noise_rate(process.schedule, exact).to(nats.dtype) * nats

    objective = Denoising(process, token_loss, Clipped(whole, EARLIEST, 1.0))
    return Family(process, objective, TimeGrid(back), bound=Denoising(process, token_loss))


@dataclass(frozen=True)
class Ratios:
    """Log scores Float[B, L, V] of a network that answers logits of the clean token, as MDLM's and UDLM's do."""

    noise: ScoreNoise
    schedule: Survival
    never: int

    def __call__(self, raw: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        p0, a = log_p(raw, self.never).exp(), self.schedule.alpha(t.double())
        # a token that is not noise is itself, whatever the network says of it
        certain = self.noise.limit.to(x_t.device)[x_t] == 0
        p0 = torch.where(certain[..., None], F.one_hot(x_t, p0.shape[-1]).to(p0.dtype), p0)
        return self.noise.scores(p0, x_t, a).clamp_min(torch.finfo(p0.dtype).tiny).log()
