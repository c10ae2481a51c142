"""ReMDM's remasking schedules: sigma, the chance that a revealed token is masked again (2503.00307, sec. 4; App.).

Each takes the survivals of a step, t before and s after it, and returns Float[B, 1] or one number per column; the card
families/remdm.py keeps it below the largest valid one.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from mezzotint.config import config
from mezzotint.decode.canvas import Canvas, Span, Step
from mezzotint.decode.plan import Steps
from mezzotint.errors import CanvasError
from mezzotint.schedules import Survival

_LEAST = 1e-12


class _Scheduled:
    """Steps at the survivals of the process's own schedule."""

    def levels(self, schedule: Survival, t: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
        """a_t and a_s; what is divided by a_t stays a number where nothing survives."""
        return schedule.alpha(t).clamp_min(_LEAST), schedule.alpha(s)


@config
class Cap(_Scheduled):
    """ReMDM-cap: sigma = min(eta, sigma_max)."""

    kind: Literal["cap"] = "cap"
    eta: float = Field(default=0.02, ge=0, le=1)

    def sigma(self, t: Tensor, a_t: Tensor, a_s: Tensor, conf: Tensor) -> Tensor:
        return torch.full_like(a_t, self.eta)


@config
class Rescale(_Scheduled):
    """ReMDM-rescale: sigma = eta sigma_max."""

    kind: Literal["rescale"] = "rescale"
    eta: float = Field(default=0.015, ge=0, le=1)

    def sigma(self, t: Tensor, a_t: Tensor, a_s: Tensor, conf: Tensor) -> Tensor:
        return self.eta * _most(a_t, a_s)


@config
class Confident(_Scheduled):
    """sigma = eta sigma_max softmax(-p), shared out to the columns that were written with least confidence.

    As published, masked columns get no share and are revealed as by MDLM, so more stays masked than 1 - a_s.
    """

    kind: Literal["confident"] = "confident"
    eta: float = Field(default=1.0, ge=0, le=1)

    def sigma(self, t: Tensor, a_t: Tensor, a_s: Tensor, conf: Tensor) -> Tensor:
        # a row in which nothing is written has no softmax, and nothing to take back
        share = conf.softmax(-1).nan_to_num(0.0)
        return self.eta * _most(a_t, a_s) * share.masked_fill(conf == -torch.inf, 0.0)


@config
class Loop:
    """MDLM to the level `level`, then taking back and rewriting at that level, then MDLM to the end.

    Until t_on survival grows from 0 to `level`; down to t_off it stays there, with sigma = eta; then it grows to 1.
    """

    kind: Literal["loop"] = "loop"
    eta: float = Field(default=0.02, ge=0, le=1)
    t_on: float = Field(default=0.55, gt=0, lt=1)
    t_off: float = Field(default=0.05, gt=0, lt=1)
    level: float = Field(default=0.9, gt=0, lt=1)

    def levels(self, schedule: Survival, t: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
        """a_t and a_s; the phase is that of t, and a step to 0 ends with everything, as long as it may be."""

        def at(u: Tensor) -> Tensor:
            rising = ((1 - u) * self.level / (1 - self.t_on)).clamp_max(1.0)
            ending = 1 - u * (1 - self.level) / self.t_off
            held = torch.full_like(t, self.level)
            return torch.where(t > self.t_on, rising, torch.where(t <= self.t_off, ending, held))

        a_t = at(t).clamp_min(_LEAST)
        # steps longer than a phase would go beyond its level, or stop at it
        return a_t, torch.where(s == 0, 1.0, torch.maximum(at(s), a_t))

    def sigma(self, t: Tensor, a_t: Tensor, a_s: Tensor, conf: Tensor) -> Tensor:
        return torch.full_like(a_t, self.eta).masked_fill((t > self.t_on) | (t <= self.t_off), 0.0)


@config
class ForwardBackward(_Scheduled):
    """sigma = (a_s - a_t) / a_t: a step of noise after every two steps of denoising (2205.14987)."""

    kind: Literal["forward-backward"] = "forward-backward"

    def sigma(self, t: Tensor, a_t: Tensor, a_s: Tensor, conf: Tensor) -> Tensor:
        return (a_s - a_t) / a_t


@config
class Flow(_Scheduled):
    """sigma = b(t) (a_s / a_t - 1), b(t) = strength (t (1 - t))^1/4: the corrector of 2407.15595, App. D."""

    kind: Literal["flow"] = "flow"
    strength: float = Field(default=10.0, ge=0)

    def sigma(self, t: Tensor, a_t: Tensor, a_s: Tensor, conf: Tensor) -> Tensor:
        # nothing is written at t = 1, where 0 times infinity stands
        return (self._b(t) * (a_s / a_t - 1)).nan_to_num(0.0)

    def after(self, t: Tensor, steps: int) -> Tensor:
        """The longest valid step from t > 0, at most 1 / steps: the time it ends at, of the shape of t."""
        b = self._b(t)
        longest = 1 / ((b + 1) / t + b / (1 - t))
        # at t = 1 the last quotient is 0 / 0, and any step is valid
        return t - longest.nan_to_num(1.0).clamp(max=1 / steps)

    def _b(self, t: Tensor) -> Tensor:
        return self.strength * t**0.25 * (1 - t) ** 0.25


def _most(a_t: Tensor, a_s: Tensor) -> Tensor:
    return ((1 - a_s) / a_t).clamp(max=1.0)


@dataclass(frozen=True)
class ForwardBackwardPlan:
    """A plan for `Flow`: the whole canvas at once, in steps no longer than 1 / steps and no longer than is valid."""

    flow: Flow
    steps: int

    def __call__(self, canvas: Canvas) -> Steps:
        """Raises: CanvasError, fewer than one step."""
        if self.steps < 1:
            raise CanvasError(f"cannot write a canvas in {self.steps} steps: ask for at least 1")
        rows, width = canvas.tokens.shape
        window = Span(torch.zeros(rows, dtype=torch.long, device=canvas.tokens.device), width)
        budget = torch.zeros(rows, dtype=torch.long, device=canvas.tokens.device)
        t, k = torch.ones(rows, 1, dtype=torch.float64, device=canvas.tokens.device), 0
        # every row has the same time, and the host knows it
        while float(t[0]) > 0:
            s = self.flow.after(t, self.steps) if float(t[0]) > 1 / self.steps else torch.zeros_like(t)
            yield Step(window, budget, k, t, s)
            t, k = s, k + 1
