"""Markov chains of T steps over V ids, by what a diffusion asks of them (D3PM, 2107.03006, sec. 3 and App. A.2).

Rows sum to one: Q[x, y] is the chance that x becomes y, and Q_t is the step to time t, t = 1 .. T.  A chain answers two
questions about the steps i + 1 .. j together, the matrix Q_{i+1} ... Q_j:

    forward(p, i, j)    p times the matrix: where a distribution over ids goes
    backward(x, i, j)   its column x: how likely each id is to become x

Times are Long[B, 1], one per sequence.  `Mixing` needs no matrix, `Powers` a few, `ListedChain` all of them.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mezzotint.errors import ConfigError, VocabularyError
from mezzotint.rng import Rng, draw

_FRESH = 1


class MarkovChain(nn.Module, ABC):
    """A chain of `steps` steps over `vocab` ids; matrices are float64."""

    steps: int
    vocab: int
    stationary: Tensor
    """Float64[V], where the chain ends."""

    @abstractmethod
    def forward(self, p: Tensor, i: Tensor, j: Tensor) -> Tensor:
        """Float[B, L, V] at time i -> Float[B, L, V] at time j."""

    @abstractmethod
    def backward(self, x: Tensor, i: Tensor, j: Tensor) -> Tensor:
        """Float64[B, L, V]: the chance of each id at time i to be Long[B, L] `x` at time j."""

    def move(self, x: Tensor, i: Tensor, j: Tensor, rng: Rng) -> Tensor:
        """x_j ~ q(x_j | x_i = x), Long[B, L]."""
        return draw(self(F.one_hot(x, self.vocab).double(), i, j), rng)

    def after(self, x_0: Tensor, j: Tensor) -> Tensor:
        """q(x_j | x_0), Float64[B, L, V]."""
        return self(F.one_hot(x_0, self.vocab).double(), torch.zeros_like(j), j)

    def matrix(self, i: int, j: int) -> Tensor:
        """Float64[V, V]: the steps i + 1 .. j in one matrix."""
        ids = torch.eye(self.vocab, dtype=torch.float64, device=self.stationary.device)[None]
        at = torch.tensor([[i], [j]], device=ids.device)
        return self(ids, at[:1], at[1:])[0]


class Mixing(MarkovChain):
    """x stays itself with probability a_j / a_i, else it is drawn from `stationary`; no matrix is made.

    Args:
        alpha: Float64[T + 1], survival after 0 .. T steps; begins with 1.
        stationary: Float64[V]; uniform, or all on [MASK] for the absorbing chain.
    """

    alpha: Tensor

    def __init__(self, alpha: Tensor, stationary: Tensor) -> None:
        super().__init__()
        self.steps, self.vocab = len(alpha) - 1, len(stationary)
        self.register_buffer("alpha", alpha.double())
        self.register_buffer("stationary", stationary.double())

    def forward(self, p: Tensor, i: Tensor, j: Tensor) -> Tensor:
        kept = self._kept(i, j).to(p.dtype)
        return kept * p + (1 - kept) * p.sum(-1, keepdim=True) * self.stationary.to(p.dtype)

    def backward(self, x: Tensor, i: Tensor, j: Tensor) -> Tensor:
        kept = self._kept(i, j)
        return kept * F.one_hot(x, self.vocab) + ((1 - kept) * self.stationary[x][..., None])

    def move(self, x: Tensor, i: Tensor, j: Tensor, rng: Rng) -> Tensor:
        gone = rng.uniform(tuple(x.shape), x.device) >= self._kept(i, j)[..., 0]
        total = self.stationary.cumsum(0)
        level = rng.fork(_FRESH).uniform(tuple(x.shape), x.device) * total[-1]
        return torch.where(gone, torch.searchsorted(total, level, right=True).clamp_max(self.vocab - 1), x)

    def _kept(self, i: Tensor, j: Tensor) -> Tensor:
        early, late = self.alpha[i], self.alpha[j]
        return torch.where(late > 0, late / early.clamp_min(torch.finfo(torch.float64).tiny), 0.0)[..., None]


class ListedChain(MarkovChain):
    """Any matrices, Float64[T, V, V]; keeps them and their products, so for small vocabularies.

    `stationary` is uniform unless given.
    """

    one: Tensor
    products: Tensor

    def __init__(self, steps: Tensor, stationary: Tensor | None = None) -> None:
        super().__init__()
        self.steps, self.vocab = steps.shape[0], steps.shape[-1]
        products = [torch.eye(self.vocab, dtype=torch.float64)]
        for one in steps.double():
            products.append(products[-1] @ one)
        self.register_buffer("one", steps.double())
        self.register_buffer("products", torch.stack(products))
        even = torch.full((self.vocab,), 1 / self.vocab, dtype=torch.float64)
        self.register_buffer("stationary", even if stationary is None else stationary.double())

    def forward(self, p: Tensor, i: Tensor, j: Tensor) -> Tensor:
        if not bool((i == 0).all()):
            return _by_step(i, j, lambda rows, a, b: p[rows] @ self._between(a, b).to(p.dtype))
        return p @ self.products[j[:, 0]].to(p.dtype)

    def backward(self, x: Tensor, i: Tensor, j: Tensor) -> Tensor:
        return _by_step(i, j, lambda rows, a, b: self._between(a, b).mT[x[rows]])

    def _between(self, i: int, j: int) -> Tensor:
        if i == 0:
            return self.products[j]
        if j == i + 1:
            return self.one[i]
        product = torch.eye(self.vocab, dtype=torch.float64, device=self.one.device)
        for step in range(i, j):
            product = product @ self.one[step]
        return product


class Powers(MarkovChain):
    """Powers of one matrix: the chain stands at base ** powers[k] after k steps.

    Only the squarings of the base are kept, and vectors are sent through those that a power is made of.

    Args:
        base: Float64[V, V].
        powers: Long[T + 1], begins with 0, never falls.
        stationary: Float64[V]; uniform unless given.
    """

    squares: Tensor
    powers: Tensor

    def __init__(self, base: Tensor, powers: Tensor, stationary: Tensor | None = None) -> None:
        super().__init__()
        if powers[0] != 0 or bool((powers.diff() < 0).any()):
            raise ConfigError("the powers of a chain begin with 0 and never fall")
        self.steps, self.vocab = len(powers) - 1, base.shape[-1]
        squares = [base.double()]
        for _ in range(max(int(powers.max()).bit_length() - 1, 0)):
            squares.append(stochastic(squares[-1] @ squares[-1]))
        self.register_buffer("squares", torch.stack(squares))
        self.register_buffer("powers", powers.long())
        even = torch.full((self.vocab,), 1 / self.vocab, dtype=torch.float64)
        self.register_buffer("stationary", even if stationary is None else stationary.double())

    def forward(self, p: Tensor, i: Tensor, j: Tensor) -> Tensor:
        for square, used in self._used(i, j):
            p = torch.where(used, p @ square.to(p.dtype), p)
        return p

    def backward(self, x: Tensor, i: Tensor, j: Tensor) -> Tensor:
        column = F.one_hot(x, self.vocab).double()
        for square, used in self._used(i, j):
            column = torch.where(used, column @ square.mT, column)
        return column

    def _used(self, i: Tensor, j: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        power = (self.powers[j] - self.powers[i])[..., None]
        for bit, square in enumerate(self.squares):
            yield square, (power >> bit) & 1 == 1


class Ending(MarkovChain):
    """Another chain whose last step sends everything to [MASK], so that it ends where sampling begins."""

    def __init__(self, inner: MarkovChain, mask_id: int) -> None:
        super().__init__()
        self.inner, self.steps, self.vocab, self.mask_id = inner, inner.steps, inner.vocab, mask_id
        self.register_buffer("stationary", mask(inner.vocab, mask_id))

    def forward(self, p: Tensor, i: Tensor, j: Tensor) -> Tensor:
        ended = (j == self.steps) & (i < j)
        all_masked = p.sum(-1, keepdim=True) * self.stationary.to(p.dtype)
        return torch.where(ended[..., None], all_masked, self.inner(p, i, j))

    def backward(self, x: Tensor, i: Tensor, j: Tensor) -> Tensor:
        ended = (j == self.steps) & (i < j)
        arrived = (x == self.mask_id).double()[..., None].expand(*x.shape, self.vocab)
        return torch.where(ended[..., None], arrived, self.inner.backward(x, i, j))


def survival(betas: Tensor) -> Tensor:
    """Float64[T] chances of a step -> Float64[T + 1] survival after 0 .. T steps."""
    return torch.cat([torch.ones(1, dtype=torch.float64), (1 - betas.double()).cumprod(0)])


def even(vocab: int, but: int | None = None) -> Tensor:
    """Float64[V], uniform; over all ids or all `but` one."""
    p = torch.ones(vocab, dtype=torch.float64)
    if but is not None:
        p[but] = 0
    return p / p.sum()


def mask(vocab: int, mask_id: int) -> Tensor:
    """Float64[V], all on [MASK].

    Raises:
        VocabularyError: `mask_id` is not one of the ids.
    """
    if not 0 <= mask_id < vocab:
        raise VocabularyError(f"cannot use {mask_id} as the mask token: the vocabulary has the ids 0 to {vocab - 1}")
    return F.one_hot(torch.tensor(mask_id), vocab).double()


def stochastic(matrix: Tensor) -> Tensor:
    """The matrix Float[..., V, V] with rows that sum to one, which products of many factors lose."""
    return matrix / matrix.sum(-1, keepdim=True)


def _by_step(i: Tensor, j: Tensor, answer: Callable[[Tensor, int, int], Tensor]) -> Tensor:
    """Float[B, L, V]: answers for Long[n] rows at a time, those that stand at the same times."""
    pairs, of = torch.cat([i, j], 1).unique(dim=0, return_inverse=True)
    rows = [(of == number).nonzero()[:, 0] for number in range(len(pairs))]
    parts = [answer(here, a, b) for here, (a, b) in zip(rows, pairs.tolist(), strict=True)]
    return torch.cat(parts)[torch.cat(rows).argsort()]
