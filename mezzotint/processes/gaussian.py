"""Variance-preserving Gaussian noise on word embeddings (Diffusion-LM, 2205.14217, sec. 4; SED, 2211.04236, sec. 3).

    z_0 = E[w] + spread eps,   q(z_t | z_0) = N(sqrt(alpha_t) z_0, (1 - alpha_t) I),   p(w | z_0) = the head's softmax

with alpha the survival that papers write as alpha-bar.  Coefficients are computed in float64, since of
1 - alpha_t / alpha_s of neighbouring steps float32 keeps few digits; vectors keep the dtype of the embeddings.
"""

import torch
from torch import Tensor, nn

from mezzotint.errors import VocabularyError
from mezzotint.processes.base import Process
from mezzotint.rng import Rng
from mezzotint.schedules import Survival

_START = 0x57A27  # forks the caller's noise, so that the noise of z_0 and that of z_t never share a number


class Gaussian(Process):
    """Noise on the rows of an embedding table.

    Args:
        embedding: Float[V, E], the vectors of the tokens: fresh, or those of another model.
        schedule: survival of the signal's variance.
        spread: the standard deviation of z_0 around its embedding.
        head: Float[B, L, E] vectors and the table -> logits; `Tied` if not given.
        trainable: the table learns with the network.
        precision: coefficients are rounded to it before they meet vectors; float32 in Diffusion-LM's code.

    Raises:
        VocabularyError: the table is not a matrix.
    """

    def __init__(
        self,
        embedding: Tensor,
        schedule: Survival,
        *,
        spread: float = 0.0,
        head: nn.Module | None = None,
        trainable: bool = False,
        precision: torch.dtype = torch.float64,
    ) -> None:
        super().__init__()
        if embedding.dim() != 2:
            raise VocabularyError(f"an embedding table has two axes, tokens and features, not {embedding.dim()}")
        self.table = nn.Parameter(embedding.detach().clone(), requires_grad=trainable)
        self.head = Tied(embedding.shape[0]).to(embedding.dtype) if head is None else head
        self.schedule, self.spread, self.precision = schedule, spread, precision

    @property
    def vocab(self) -> int:
        """V."""
        return self.table.shape[0]

    @property
    def width(self) -> int:
        """E."""
        return self.table.shape[1]

    def alpha(self, t: Tensor, x_0: Tensor | None = None) -> Tensor:
        """Float64 survival at t, in the shape of t."""
        return self.schedule.alpha(t.double())

    def around(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """alpha_t and the variance of z_t around sqrt(alpha_t) E[w], float64 in the shape of t."""
        a = self.alpha(t)
        return a, 1 - a + a * self.spread**2

    def embed(self, tokens: Tensor) -> Tensor:
        """Float[B, L, E]: the clean vectors."""
        return self.table[tokens]

    def start(self, tokens: Tensor, noise: Tensor) -> Tensor:
        """z_0, Float[B, L, E], from standard normal noise of that shape."""
        spread = torch.tensor(self.spread, dtype=self.precision, device=noise.device)
        return self.embed(tokens) + spread.to(noise.dtype) * noise

    def noised(self, z_0: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """z_t, Float[B, L, E], from standard normal noise of that shape."""
        a = self.alpha(t)
        return self._rounded(a.sqrt(), z_0) * z_0 + self._rounded((1 - a).sqrt(), z_0) * noise

    def both(self, tokens: Tensor, t: Tensor, rng: Rng) -> tuple[Tensor, Tensor]:
        """z_0 and z_t, Float[B, L, E] each; gradients reach the table through both."""
        shape = (*tokens.shape, self.width)
        z_0 = self.start(tokens, normal(rng.fork(_START), shape, self.table))
        return z_0, self.noised(z_0, t, normal(rng, shape, self.table))

    def corrupt(self, x_0: Tensor, t: Tensor, rng: Rng) -> Tensor:
        """Float[B, L, E] z_t from Long[B, L] tokens."""
        return self.both(x_0, t, rng)[1]

    def prior(self, shape: tuple[int, int], device: torch.device | str | None, rng: Rng) -> Tensor:
        """Float[B, L, E] standard normal vectors."""
        return normal(rng, (*shape, self.width), self.table).to(device)

    def hold(self, x_t: Tensor, x_0: Tensor, fixed: Tensor) -> Tensor:
        """Vectors with the clean embedding of Long[B, L] `x_0` wherever Bool[B, L] `fixed` is set."""
        return torch.where(fixed[..., None], self.embed(x_0), x_t)

    def posterior(self, z_0: Tensor, z_t: Tensor, a_t: Tensor, a_s: Tensor) -> tuple[Tensor, Tensor]:
        """Mean Float[B, L, E] and standard deviation Float[B, 1|L, 1] of q(z_s | z_t, z_0) (2006.11239, eq. 7).

        `a_t` < `a_s` are the survivals, Float[B, 1|L], of t > s; with a_s = 1 the answer is z_0 itself.
        """
        clean, noisy, variance = coefficients(a_t, a_s)
        mean = self._rounded(clean, z_0) * z_0 + self._rounded(noisy, z_0) * z_t
        # by its logarithm, as published; of a variance of 0 this is 0 as well
        return mean, (variance.log().to(self.precision) / 2).exp()[..., None].to(z_0.dtype)

    def implicit(
        self, z_0: Tensor, z_t: Tensor, a_t: Tensor, a_s: Tensor, eta: Tensor | float
    ) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of DDIM's step, as those of `posterior` (2010.02502, eq. 12 and 16).

        eta 0 draws nothing; eta 1 has the posterior's variance and, given z_0, its mean.
        """
        scale, shift = self._rounded((1 / a_t).sqrt(), z_0), self._rounded((1 / a_t - 1).sqrt(), z_0)
        eps = (scale * z_t - z_0) / shift
        a_t, a_s = a_t.to(self.precision), a_s.to(self.precision)
        sigma = eta * ((1 - a_s) / (1 - a_t)).sqrt() * (1 - a_t / a_s).sqrt()
        rest = (1 - a_s - sigma**2).clamp_min(0).sqrt()
        mean = self._rounded(a_s.sqrt(), z_0) * z_0 + self._rounded(rest, z_0) * eps
        return mean, self._rounded(sigma, z_0)

    def nearest(self, z: Tensor) -> Tensor:
        """Float[B, L, E]: the embedding that lies nearest (sec. 4.3, the clamping trick)."""
        return self.table[Distance()(z, self.table).argmax(-1)].to(z.dtype)

    def logits(self, z: Tensor) -> Tensor:
        """Float[B, L, V] logits of the tokens that clean vectors stand for."""
        return self.head(z, self.table)

    def round(self, z: Tensor) -> Tensor:
        """log p(w | z_0), Float[B, L, V]."""
        logits = self.logits(z)
        return logits.to(torch.promote_types(logits.dtype, torch.float32)).log_softmax(-1)

    def alone(self, z_t: Tensor, t: Tensor) -> Tensor:
        """log p(w | z_t) of every column by itself, of equally likely tokens, Float[B, L, V]."""
        a, variance = (part[..., None].to(z_t.dtype) for part in self.around(t))
        return (Distance()(z_t / a.sqrt(), self.table) * a / (2 * variance)).log_softmax(-1)

    def _rounded(self, coefficient: Tensor, like: Tensor) -> Tensor:
        """Float[B, 1|L, 1], rounded to the process's precision, in the dtype of the vectors."""
        return coefficient.to(self.precision)[..., None].to(like.dtype)


class Tied(nn.Module):
    """Logits E z + b: the embeddings read their own vectors, with a bias (Diffusion-LM's `lm_head`).

    Vectors Float[B, L, E] and a table Float[V, E] give Float[B, L, V].
    """

    def __init__(self, vocab: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(vocab))

    def forward(self, z: Tensor, table: Tensor) -> Tensor:
        return z @ table.T + self.bias


class Readout(nn.Module):
    """Logits R z with a matrix of their own that starts as the embeddings (SED, sec. 3.2).

    Vectors Float[B, L, E] give Float[B, L, V].
    """

    def __init__(self, table: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(table.detach().clone())

    def forward(self, z: Tensor, table: Tensor) -> Tensor:
        return z @ self.weight.T


class Distance(nn.Module):
    """Logits -||z - E||^2 scale, Float[B, L, V], the squared z left out since it is common to all tokens.

    With scale 1 / (2 spread^2) it is the exact posterior of equally likely tokens; with 1 it is `logits_mode` 2 of
    Diffusion-LM's code.
    """

    def __init__(self, scale: float = 1.0) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, z: Tensor, table: Tensor) -> Tensor:
        return self.scale * (2 * z @ table.T.to(z.dtype) - (table**2).sum(-1).to(z.dtype))


def coefficients(a_t: Tensor, a_s: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """What q(z_s | z_t, z_0) takes of z_0 and of z_t, and its variance; shapes and dtype of the survivals."""
    beta, lost = 1 - a_t / a_s, 1 - a_t
    return a_s.sqrt() * beta / lost, (a_t / a_s).sqrt() * (1 - a_s) / lost, beta * (1 - a_s) / lost


def divergence(mean: Tensor, log_variance: Tensor, other: Tensor, its: Tensor) -> Tensor:
    """KL(N(mean, e^log_variance), N(other, e^its)) of every number by itself, in nats; the shapes broadcast."""
    return (-1 + its - log_variance + (log_variance - its).exp() + (mean - other) ** 2 * (-its).exp()) / 2


def normal(rng: Rng, shape: tuple[int, ...], like: Tensor, bound: float | None = None) -> Tensor:
    """Standard normal numbers Float[*shape], dtype and device of `like`; tails beyond +-`bound` are cut off."""
    u = rng.uniform(shape, like.device)
    if bound is not None:
        low = torch.special.ndtr(torch.tensor(-bound, dtype=torch.float64, device=like.device))
        u = low + (1 - 2 * low) * u
    return torch.special.ndtri(u).to(like.dtype)


def scaled(table: Tensor) -> Tensor:
    """The table Float[V, E] with every row of norm sqrt(E), one per feature (SED, sec. 3.1)."""
    return table * (table.shape[1] ** 0.5 / table.norm(dim=-1, keepdim=True).clamp_min(1e-12))


def fresh(vocab: int, width: int, seed: int = 0) -> Tensor:
    """Float32[vocab, width]: standard normal embeddings."""
    return normal(Rng(seed), (vocab, width), torch.zeros(()))
