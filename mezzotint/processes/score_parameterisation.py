"""How a network's output becomes log scores log p_t(y) / p_t(x_t): (raw Float[B, L, V], x_t, t) -> Float[B, L, V].

Scores run over orders of magnitude with the noise level.  What is known of that is taken out here, so that the network
itself stays of order one.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from mezzotint.schedules import Survival


@dataclass(frozen=True)
class Scaled:
    """raw - log(e^sigma - 1) - log(V - 1), and 0 at the present token: absorbing noise (SEDD, 2310.16834, App. C.2).

    Raw outputs Float[B, L, V] give log scores Float[B, L, V].
    """

    schedule: Survival

    def __call__(self, raw: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        a = self.schedule.alpha(t.double())
        scale = ((1 - a) / a).log() + torch.log(torch.tensor(raw.shape[-1] - 1.0, dtype=torch.float64))
        return present(raw - scale[..., None].to(raw.dtype), x_t, t)


@dataclass(frozen=True)
class Mixed:
    """log(alpha e^raw + 1 - alpha), 0 at the present token: uniform noise, exact for e^raw = N p(x_0) of other columns.

    Raw outputs Float[B, L, V] give log scores Float[B, L, V].  Nothing makes these p sum to one, as nothing does in
    `Scaled`.
    """

    schedule: Survival
    never: int
    """An id that noise does not draw: its score is zero."""

    def __call__(self, raw: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        a = self.schedule.alpha(t.double())[..., None]
        mixed = torch.logaddexp(raw + a.log().to(raw.dtype), torch.log1p(-a).to(raw.dtype))
        none = torch.arange(raw.shape[-1], device=raw.device) == self.never
        least = torch.finfo(raw.dtype).tiny
        return (mixed - mixed.gather(-1, x_t[..., None])).masked_fill(none, math.log(least))


def present(raw: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
    """The network's own log scores Float[B, L, V], 0 at the present token."""
    return raw.scatter(-1, x_t[..., None], 0.0)
