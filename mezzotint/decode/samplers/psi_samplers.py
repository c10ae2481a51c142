"""Psi-samplers: a posterior step mixed with drawing the text anew from the prediction (Duo++, arXiv 2602.21185).

q(x_s | x_t) = kappa posterior + (1 - kappa) (alpha_s q(x_0 | x_t) + (1 - alpha_s) noise): the same marginals for every
kappa, and mistakes can be taken back below 1.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from mezzotint.config import config
from mezzotint.decode.canvas import Canvas, Span, Step
from mezzotint.decode.plan import Steps
from mezzotint.processes.uniform import Uniform


@config
class Kappa:
    """kappa of a Psi-sampler: how much of a step is the posterior."""

    kind: Literal["posterior", "constant", "capped", "rescaled", "remasking"] = "posterior"
    """As ReMDM's kinds of remasking; "constant" with 0 is the paper's pure predictor-corrector."""
    eta: float = Field(default=1.0, ge=0, le=1)
    """kappa itself ("constant"), or the chance of going back to noise that stands behind it."""

    def __call__(self, a_t: Tensor, a_s: Tensor) -> Tensor:
        """kappa in [0, 1], shape of a_t; 1 where nothing is noise at s, but for "constant".

        A chance sigma of going back is kappa = 1 - sigma / (1 - alpha_s).  As published, "rescaled" takes the share eta
        of a largest chance that is itself cut at eta.
        """
        if self.kind == "posterior":
            return torch.ones_like(a_t)
        if self.kind == "constant":
            return torch.full_like(a_t, self.eta)
        eta = torch.full_like(a_t, self.eta)
        most = torch.minimum(eta, (1 - a_s) / a_t)
        sigma = {"capped": most, "rescaled": self.eta * most, "remasking": eta}[self.kind]
        return torch.where(a_s < 1, 1 - sigma / (1 - a_s), 1.0).clamp(0, 1)


def mixed(process: Uniform, p0: Tensor, x_t: Tensor, levels: tuple[Tensor, Tensor], kappa: Tensor) -> Tensor:
    """Float[B, L, V]: the step from survival levels[0] to levels[1] with kappa Float[B, 1|L]."""
    a_t, a_s = levels
    back = process.posterior(p0, x_t, a_t, a_s)
    clean = process.posterior(p0, x_t, a_t, torch.ones_like(a_s))
    anew = a_s[..., None].to(p0.dtype) * clean + (1 - a_s)[..., None].to(p0.dtype) * process.limit.to(p0)
    kappa = kappa[..., None].to(p0.dtype)
    return kappa * back + (1 - kappa) * anew


@dataclass(frozen=True)
class Profile:
    """Down to the time `hold`, many steps at that time, then down to the end; each phase with its own kappa."""

    hold: float = 0.6
    shares: tuple[float, float] = (0.2, 0.2)
    """Of the steps before and after holding."""
    kappas: tuple[Kappa, Kappa, Kappa] = (Kappa(), Kappa(kind="rescaled", eta=0.3), Kappa())
    last: float = 1e-5

    def times(self, steps: int) -> Tensor:
        """Float64[steps + 1], from 1 to `last`."""
        before, after = (round(share * (steps + 1)) for share in self.shares)
        down = torch.linspace(1, self.hold, before, dtype=torch.float64)
        rest = torch.linspace(self.hold, self.last, after, dtype=torch.float64)
        held = torch.full((steps + 1 - before - after,), self.hold, dtype=torch.float64)
        return torch.cat([down, held, rest])

    def kappa(self, k: int, steps: int) -> Kappa:
        """What step `k` of `steps` uses."""
        before, after = (round(share * steps) for share in self.shares)
        return self.kappas[0 if k < before else 1 if k < steps - after else 2]


@dataclass(frozen=True)
class ListedKappa:
    """A plan over the whole canvas that walks through given times, and then to 0 in one more step."""

    times: tuple[float, ...]

    def __call__(self, canvas: Canvas) -> Steps:
        """One step per time."""
        rows = torch.zeros_like(canvas.seed)
        window = Span(rows, canvas.tokens.shape[1])
        for k, (t, s) in enumerate(zip(self.times, (*self.times[1:], 0.0), strict=True)):
            yield Step(window, rows, k, *(torch.full((len(rows), 1), u, device=rows.device) for u in (t, s)))
