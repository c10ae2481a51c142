"""Toy sources whose every sequence can be listed, so that bounds, losses and samplers have exact answers.

M is a Markov chain of four tokens, U a single token, P the first two tokens of M's chain.  All numbers are float64.
A conditional is computed by Bayes' rule over the list: the channel that made x_t is given per column as a likelihood
q(x_t | x_0), so one function serves masks, uniform noise and mixtures of both.

    from sources import MARKOV, TOKEN, PAIR, SOURCES
"""

import itertools
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

FIRST = (0.5, 0.3, 0.2)
STEP = ((0.7, 0.2, 0.1), (0.1, 0.6, 0.3), (0.3, 0.3, 0.4))


@dataclass(frozen=True)
class Source:
    """A distribution over all sequences of `length` of the tokens 0 to `real` - 1."""

    name: str
    length: int
    first: tuple[float, ...] = FIRST
    step: tuple[tuple[float, ...], ...] = STEP

    @property
    def real(self) -> int:
        """How many tokens there are; a mask, where a family needs one, is the id behind them."""
        return len(self.first)

    @property
    def mask_id(self) -> int:
        return self.real

    @cached_property
    def sequences(self) -> Tensor:
        """Long[real ** length, length], in lexicographic order."""
        return torch.tensor(list(itertools.product(range(self.real), repeat=self.length)))

    @cached_property
    def p(self) -> Tensor:
        """Float64[real ** length]: the probability of each sequence."""
        p = torch.tensor(self.first, dtype=torch.float64)[self.sequences[:, 0]]
        step = torch.tensor(self.step, dtype=torch.float64)
        for column in range(1, self.length):
            p = p * step[self.sequences[:, column - 1], self.sequences[:, column]]
        return p

    @property
    def entropy(self) -> float:
        """Nats per sequence."""
        return float(-(self.p * self.p.log()).sum())

    def sample(self, count: int, seed: int = 0) -> Tensor:
        """Long[count, length]."""
        index = torch.multinomial(self.p, count, True, generator=torch.Generator().manual_seed(seed))
        return self.sequences[index]

    def index(self, tokens: Tensor) -> Tensor:
        """Long[B]: where each sequence of Long[B, length] stands in the list."""
        places = self.real ** torch.arange(self.length - 1, -1, -1)
        return (tokens * places).sum(-1)

    def given(self, likelihood: Tensor, own: bool = True) -> Tensor:
        """p(x_0 column = v | x_t), Float64[B, length, real], from a likelihood q(x_t column | v) of the same shape.

        With `own` false the column's own token is not looked at: the leave-one-out posterior.
        """
        columns = torch.arange(self.length)
        each = likelihood.double()[:, columns, self.sequences]  # [B, sequences, length]
        hit = torch.nn.functional.one_hot(self.sequences, self.real).double()
        if own:
            joint = (self.p * each.prod(-1))[:, None].expand(-1, self.length, -1)
        else:
            others = [each[..., columns != column].prod(-1) for column in range(self.length)]
            joint = self.p * torch.stack(others, 1)
        mass = torch.einsum("bls,slv->blv", joint, hit)
        return mass / mass.sum(-1, keepdim=True)

    def masked(self, x_t: Tensor) -> Tensor:
        """p(x_0 column | revealed columns), Float64[B, length, real]; revealed columns are certain."""
        shown = torch.nn.functional.one_hot(x_t, self.real + 1)[..., : self.real].double()
        return self.given(torch.where((x_t == self.mask_id)[..., None], 1.0, shown))

    def uniform(self, x_t: Tensor, alpha: Tensor, own: bool) -> Tensor:
        """p(x_0 column | x_t) under uniform noise of survival Float[B, 1] or [B, length]; `own` as in `given`."""
        shown = torch.nn.functional.one_hot(x_t, self.real).double()
        a = alpha.double()[..., None]
        return self.given(a * shown + (1 - a) / self.real, own)


MARKOV = Source("M", 4)
TOKEN = Source("U", 1)
PAIR = Source("P", 2)
SOURCES = (MARKOV, TOKEN, PAIR)


def masks(length: int) -> Tensor:
    """Bool[2 ** length, length]: every set of hidden columns."""
    return torch.tensor(list(itertools.product((False, True), repeat=length)))
