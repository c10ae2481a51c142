"""What to write into each column, and how sure of it the network is.

A proposal maps (logits Float[B, W, V], noise) to (tokens Long[B, W], score Float[B, W]); larger scores are surer.
Logits may hold -inf for tokens that a shaper has ruled out.  A score maps (logits, tokens) to Float[B, W].
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from mezzotint.odds import best, first_largest
from mezzotint.rng import passed


class NoiseSource(Protocol):
    """Where draws come from: `mezzotint.rng.Rng`, or anything that answers the same question."""

    def uniform(self, shape: tuple[int, ...], device: torch.device | str | None = None) -> Tensor:
        """Float64[*shape] strictly inside (0, 1)."""
        ...

    def fork(self, name: int) -> "NoiseSource":
        """An independent source, the same for the same name."""
        ...


_ORDER = 1
Score = Callable[[Tensor, Tensor], Tensor]
Propose = Callable[[Tensor, NoiseSource], tuple[Tensor, Tensor]]


def likeliest(logits: Tensor, rng: NoiseSource) -> tuple[Tensor, Tensor]:
    """The argmax of Float[B, W, V], scored by its probability (LLaDA, 2502.09992, low-confidence remasking)."""
    return best(logits)


def margin(logits: Tensor, rng: NoiseSource) -> tuple[Tensor, Tensor]:
    """The argmax of Float[B, W, V], scored by its probability's lead over the second one (Dream's `topk_margin`)."""
    tokens = first_largest(logits)
    return tokens, margin_of(logits, tokens)


def entropy(logits: Tensor, rng: NoiseSource) -> tuple[Tensor, Tensor]:
    """The argmax of Float[B, W, V], scored by minus its column's entropy in nats (Dream; EB-sampler, 2505.24857)."""
    tokens = first_largest(logits)
    return tokens, negative_entropy(logits, tokens)


@dataclass(frozen=True)
class Draw:
    """A sample from softmax(logits / temperature): one uniform number per column, inverted through the running sum.

    Logits Float[B, W, V] give tokens and scores [B, W].  Temperature 0 is the argmax.  The score looks at the logits as
    given, before `temperature`, as LLaDA does; for Dream's and SDAR's confidence under the tempered, filtered
    distribution put the temperature into the shapers.
    """

    temperature: float | Tensor = 1.0
    """A number, or Float[B, 1], one per request."""
    score: Score | None = None
    """None: the probability of the drawn token."""
    precise: bool = False
    """One Gumbel number per token in float64 instead, as LLaDA's reference draws: many times slower."""

    def __call__(self, logits: Tensor, rng: NoiseSource) -> tuple[Tensor, Tensor]:
        draw = self._race if self.precise else self._invert
        tokens = draw(logits, rng)
        return tokens, (self.score or probable)(logits, tokens)

    def _invert(self, logits: Tensor, rng: NoiseSource) -> Tensor:
        temperature = torch.as_tensor(wide(self.temperature), dtype=torch.float32, device=logits.device)
        best = logits.amax(-1, keepdim=True)
        odds = ((logits - best).float() / temperature.clamp_min(torch.finfo(torch.float32).tiny)).exp_().cumsum(-1)
        tokens = passed(odds, rng.uniform(tuple(odds.shape[:-1]), logits.device))
        return torch.where(temperature.reshape(-1, 1) > 0, tokens, first_largest(logits))

    def _race(self, logits: Tensor, rng: NoiseSource) -> Tensor:
        gumbel = -(-rng.uniform(tuple(logits.shape), logits.device).log()).log()
        # z / T + g, times T so that T = 0 is the argmax
        return (logits.double() + wide(self.temperature) * gumbel).argmax(-1)


@dataclass(frozen=True)
class RandomOrder:
    """The tokens of another proposal under scores Float[B, W] that say nothing, uniform in (0, 1): for `Bernoulli`."""

    propose: Propose

    def __call__(self, logits: Tensor, rng: NoiseSource) -> tuple[Tensor, Tensor]:
        tokens, _ = self.propose(logits, rng)
        return tokens, rng.fork(_ORDER).uniform(tuple(tokens.shape), logits.device).float()


@dataclass(frozen=True)
class EndTokensLast:
    """The tokens of another proposal, scored as if `unwelcome` tokens had no probability: they are written last.

    Keeps end tokens from being written first and starving the text (LLaDA's `confidence_eos_eot_inf`, 2502.09992).
    Logits Float[B, W, V] give tokens and scores [B, W].
    """

    propose: Propose
    unwelcome: Tensor
    """Bool[V]."""

    def __call__(self, logits: Tensor, rng: NoiseSource) -> tuple[Tensor, Tensor]:
        tokens, _ = self.propose(logits, rng)
        return tokens, probable(logits.masked_fill(self.unwelcome, -torch.inf), tokens)


@dataclass(frozen=True)
class GumbelOrder:
    """Another proposal with its order drawn: the n surest columns are n draws without return from softmax(score / T).

    Dream's `alg_temp` (2508.15487); by Gumbel's trick the draws are the largest of score / T + g (1903.06059).
    Logits Float[B, W, V] give tokens and scores [B, W].
    """

    propose: Propose
    temperature: float | Tensor

    def __call__(self, logits: Tensor, rng: NoiseSource) -> tuple[Tensor, Tensor]:
        tokens, score = self.propose(logits, rng)
        gumbel = -(-rng.fork(_ORDER).uniform(tuple(tokens.shape), logits.device).log()).log()
        # times T, so that T = 0 is the order itself
        return tokens, (score.double() + self.temperature * gumbel).to(score.dtype)


def probable(logits: Tensor, tokens: Tensor) -> Tensor:
    """The probability, Float[B, W], of the tokens Long[B, W] under logits Float[B, W, V]."""
    return (logits.gather(-1, tokens[..., None])[..., 0] - logits.logsumexp(-1)).exp()


def margin_of(logits: Tensor, tokens: Tensor) -> Tensor:
    """The largest probability of a column minus the second largest, Float[B, W], of logits Float[B, W, V]."""
    first, second = (logits.topk(2, dim=-1).values - logits.logsumexp(-1, keepdim=True)).exp().unbind(-1)
    return first - second


def negative_entropy(logits: Tensor, tokens: Tensor) -> Tensor:
    """Minus the entropy of a column in nats, Float[B, W], of logits Float[B, W, V]."""
    # finite, so that a ruled-out token adds 0 times a number and not 0 times infinity
    behind = (logits - logits.amax(-1, keepdim=True)).clamp_min_(torch.finfo(logits.dtype).min)
    odds = behind.exp()
    total = odds.sum(-1)
    return behind.mul_(odds).sum(-1) / total - total.log()


def wide(number: float | Tensor) -> float | Tensor:
    """A number per request, Float[B, 1], made to broadcast against Float[B, W, V]."""
    return number[..., None] if isinstance(number, Tensor) else number
