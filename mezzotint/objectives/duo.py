"""Training on the Gaussian process behind uniform noise: Duo's curriculum and its consistency distillation.

Both draw Gaussian noise on one-hot columns and read tokens off it by argmax (Sahoo et al. 2025, arXiv 2506.10892).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from mezzotint.batch import Batch
from mezzotint.errors import ConfigError
from mezzotint.layouts import Full
from mezzotint.objectives.base import Loss, Objective
from mezzotint.objectives.denoising import TokenLoss
from mezzotint.objectives.times import Times, whole
from mezzotint.processes.gaussian_argmax import GaussianArgmax, largest, normal
from mezzotint.rng import Rng
from mezzotint.schedules import Survival

LevelLoss = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]
"""(raw Float[B, L, V], x_0, x_t, alpha, dalpha / dt) -> nats Float[B, L]."""
Predict = Callable[[Tensor], Tensor]
"""raw Float[B, L, V] -> log p(x_0), Float[B, L, V]."""

_NOISE = 0xD0A1


@dataclass(frozen=True)
class Curriculum:
    """Until step `until` the network reads softmax(w / tau) instead of the argmax of w (sec. 4.1); then `after`.

    The loss is that of the argmax at the survival of its level.  The step is the rng's.  The network must read weights
    over tokens, Float[B, N, V], as DiT does; it is told the time at which `schedule` has that survival.
    """

    gaussian: GaussianArgmax
    schedule: Survival
    loss: LevelLoss
    after: Objective
    until: int
    tau: float = 1e-3
    never: int | None = None
    few: int | None = None
    """Draw only this many of the largest w of other ids (Duo++, 2602.21185); None: all of them."""
    times: Times = whole

    def __post_init__(self) -> None:
        """Raises ConfigError for more of the largest than there are."""
        if self.few is not None and self.few >= self.gaussian.ids:
            raise ConfigError(
                f"cannot draw the {self.few} largest of {self.gaussian.ids - 1} other ids: ask for fewer of them"
            )

    def __call__(self, denoiser: Any, batch: Batch, rng: Rng) -> Loss:
        step = rng.step if isinstance(rng.step, int) else int(rng.step.reshape(-1)[0])
        if step >= self.until:
            return self.after(denoiser, batch, rng)
        x_0, t = batch.tokens, self.times(batch, rng)
        rng = rng.fork(_NOISE)
        if self.few is None:
            nats = self.nats(denoiser, x_0, t, normal(x_0, self._ids, rng, self.never), batch.target)
        else:
            found = largest(self.gaussian, x_0, t, self.few, rng, self.never)
            clean, others = found.softmax(self.tau)
            soft = torch.zeros(*x_0.shape, self._ids, device=x_0.device)
            soft = soft.scatter(-1, found.ids, others.float()).scatter(-1, x_0[..., None], clean.float()[..., None])
            nats = self._read(denoiser, x_0, t, (soft, found.highest(x_0)), batch.target)
        nats, count = nats * batch.target, batch.target.sum()
        return Loss(nats.sum() / count.clamp_min(1), count, nats)

    def nats(self, denoiser: Any, x_0: Tensor, t: Tensor, noise: Tensor, target: Tensor) -> Tensor:
        """Float[B, L] for given times and noise; what is not `target` is read as it is."""
        w = self.gaussian.blur(x_0, t, noise)
        return self._read(denoiser, x_0, t, ((w / self.tau).softmax(-1), w.argmax(-1)), target)

    def _read(self, denoiser: Any, x_0: Tensor, t: Tensor, noisy: tuple[Tensor, Tensor], target: Tensor) -> Tensor:
        soft, x_t = noisy
        clean = torch.zeros_like(soft).scatter(-1, x_0[..., None], 1.0)
        soft, x_t = torch.where(target[..., None], soft, clean), torch.where(target, x_t, x_0)
        a = self.gaussian.alpha(t)
        raw = denoiser(Full().arrange(soft, x_0), self.schedule.time(a).to(t.dtype))
        return self.loss(raw, x_0, x_t, a, self.gaussian.dalpha(t))

    @property
    def _ids(self) -> int:
        return self.gaussian.ids + (self.never is not None)


@dataclass(frozen=True)
class Consistency:
    """One round of discrete consistency distillation (sec. 4.2): the student answers at t as its teacher at t - delta.

    Both texts are argmaxes of one Gaussian noise, so they lie on one path.  The caller makes the rounds: a frozen copy
    of the student as teacher, and twice the `delta` in each.
    """

    gaussian: GaussianArgmax
    schedule: Survival
    predict: Predict
    teacher: Any
    delta: float = 1 / 512
    direction: Literal["backward", "forward"] = "backward"
    """KL(student, teacher), as published, or KL(teacher, student)."""
    never: int | None = None

    def __call__(self, denoiser: Any, batch: Batch, rng: Rng) -> Loss:
        x_0, t = batch.tokens, whole(batch, rng)
        ids = self.gaussian.ids + (self.never is not None)
        noise = normal(x_0, ids, rng.fork(_NOISE), self.never)
        nats = self.nats(denoiser, x_0, t, noise, batch.target) * batch.target
        count = batch.target.sum()
        return Loss(nats.sum() / count.clamp_min(1), count, nats)

    def nats(self, denoiser: Any, x_0: Tensor, t: Tensor, noise: Tensor, target: Tensor) -> Tensor:
        """Float[B, L] for given times and noise."""
        student = self._asked(denoiser, x_0, t, noise, target)
        with torch.no_grad():
            teacher = self._asked(self.teacher, x_0, (t - self.delta).clamp_min(0), noise, target)
        first, second = (student, teacher) if self.direction == "backward" else (teacher, student)
        # an id that neither allows counts nothing
        gap = torch.where(torch.isneginf(first), 0.0, first - second)
        return (first.exp() * gap).sum(-1)

    def _asked(self, network: Any, x_0: Tensor, t: Tensor, noise: Tensor, target: Tensor) -> Tensor:
        x_t = torch.where(target, self.gaussian.blur(x_0, t, noise).argmax(-1), x_0)
        level = self.schedule.time(self.gaussian.alpha(t)).to(t.dtype)
        return self.predict(network(Full().arrange(x_t, x_0), level))


def at_levels(loss: LevelLoss, schedule: Survival) -> TokenLoss:
    """The loss at the survivals that a schedule gives."""

    def token_loss(raw: Tensor, x_0: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        exact = t.double()
        return loss(raw, x_0, x_t, schedule.alpha(exact), schedule.dalpha(exact))

    return token_loss
