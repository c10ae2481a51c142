"""A source of strings of different lengths, and the exact networks of families that insert tokens.

A noisy string comes from a clean one by dropping tokens, and by masking some that stay.  All ways to do that to all
strings of the source are listed once; a level's probabilities then weigh the list, and conditional means are sums.
"""

import collections
import itertools
import math
from collections import Counter
from dataclasses import dataclass, fields

import numpy as np
import torch

from mezzotint.objectives.variable_length import Path, anchor

STRINGS = {(): 0.1, (0,): 0.15, (1,): 0.1, (0, 1): 0.25, (1, 1): 0.15, (0, 0, 1): 0.25}
REAL, MASK, BLANK = 2, 2, 3
LONGEST = max(map(len, STRINGS))
SHORT = {(): 0.2, (0,): 0.5, (1,): 0.3}
CLEAN, HIDDEN, ABSENT = range(3)


@dataclass(frozen=True)
class Way:
    """One way that a string of the source turns into a noisy string."""

    string: tuple[int, ...]
    """The clean string."""
    p: float
    """Its probability."""
    fate: tuple[int, ...]
    """Of each of its tokens: CLEAN, HIDDEN or ABSENT."""
    state: tuple[int, ...]
    """The noisy string."""
    truth: tuple[int, ...]
    """The clean token at each of its positions."""
    missing: tuple[tuple[int, ...], ...]
    """The absent tokens in each of its gaps, one more than positions."""


def entropy(strings):
    """Nats per string."""
    return -sum(p * math.log(p) for p in strings.values())


def surprise(strings):
    """Float64[strings]: nats of each."""
    return -torch.tensor(list(strings.values()), dtype=torch.float64).log()


def ways(fates, strings=STRINGS):
    """All ways whose fates are among `fates`."""
    found = []
    for string, p in strings.items():
        for fate in itertools.product(fates, repeat=len(string)):
            gaps, state, truth = [[]], [], []
            for token, what in zip(string, fate, strict=True):
                if what == ABSENT:
                    gaps[-1].append(token)
                    continue
                state.append(MASK if what == HIDDEN else token)
                truth.append(token)
                gaps.append([])
            found.append(Way(string, p, fate, tuple(state), tuple(truth), tuple(map(tuple, gaps))))
    return found


def times(count=48, power=4):
    """Nodes and weights of an integral over t in (0, 1); powers above 1 are dense near 0, for losses like log t."""
    nodes, weigh = np.polynomial.legendre.leggauss(count)
    nodes, weigh = (nodes + 1) / 2, weigh / 2
    return list(zip(nodes**power, power * nodes ** (power - 1) * weigh, strict=True))


def weights(found, shares):
    """Float64[ways]: the probability of each way, for the shares of CLEAN, HIDDEN and ABSENT."""
    shares = torch.stack([torch.as_tensor(share, dtype=torch.float64).reshape(()) for share in shares])
    counts = torch.tensor([[way.fate.count(kind) for kind in range(3)] for way in found], dtype=torch.float64)
    p = torch.tensor([way.p for way in found], dtype=torch.float64)
    return p * (shares**counts).prod(-1)


class Exact:
    """A network that knows the source: canvas columns -> the conditional means of what is missing and hidden."""

    def __init__(self, found):
        self.found = found
        self.states = sorted({way.state for way in found})
        self.row = {state: index for index, state in enumerate(self.states)}
        rows = torch.tensor([self.row[way.state] for way in found])
        self.select = torch.nn.functional.one_hot(rows, len(self.states)).T.double()
        positions = LONGEST + 1
        self.missing = torch.zeros(len(found), positions, REAL, dtype=torch.float64)
        self.truth = torch.zeros(len(found), positions, REAL, dtype=torch.float64)
        for index, way in enumerate(found):
            for gap, tokens in enumerate(way.missing):
                for token, count in Counter(tokens).items():
                    self.missing[index, gap, token] = count
            for position, token in enumerate(way.truth):
                self.truth[index, position + 1, token] = 1
        codes = torch.full(((BLANK + 1) ** LONGEST,), -1)
        for state, index in self.row.items():
            codes[self.code(torch.tensor([[*state, *[BLANK] * (LONGEST - len(state))]]))[0]] = index
        self.lookup = codes

    @staticmethod
    def code(tokens):
        code = torch.zeros(len(tokens), dtype=torch.long)
        for column in tokens.unbind(1):
            code = torch.where(column != BLANK, code * (BLANK + 1) + column + 1, code)
        return code

    def means(self, shares):
        """Float64[states + 1, positions, REAL]: expected missing tokens right of, and true token at, each position.

        The last row is for strings that the source cannot lead to: nothing is missing, nothing hidden.
        """
        w = weights(self.found, shares)
        mass = (self.select @ w)[:, None, None]
        each = [torch.einsum("sw,w,wpv->spv", self.select, w, x) for x in (self.missing, self.truth)]
        return [torch.nn.functional.pad(torch.where(mass > 0, x / mass, 0.0), (0, 0, 0, 0, 0, 1)) for x in each]

    def at(self, table, tokens):
        """Float64[B, N, *]: rows of a table for columns of anchored tokens; blanks get the column at their left.

        Strings that the source cannot lead to get the table's last row.
        """
        long = (tokens[:, 1:] != BLANK).sum(-1) > LONGEST
        rows = self.lookup[self.code(tokens[:, 1:]).masked_fill(long, 0)].masked_fill(long, -1)
        ranks = torch.nn.functional.pad((tokens[:, 1:] != BLANK).cumsum(-1), (1, 0))
        return table[rows[:, None], ranks.clamp_max(LONGEST)]

    def path(self, way):
        """The way as columns with an anchor, one blank behind the string."""
        clean = [*way.string, *[BLANK] * (LONGEST + 1 - len(way.string))]
        fates = [*way.fate, *[CLEAN] * (LONGEST + 1 - len(way.string))]
        noisy = [{CLEAN: token, HIDDEN: MASK, ABSENT: BLANK}[fate] for token, fate in zip(clean, fates, strict=True)]
        noisy, clean = torch.tensor([noisy]), torch.tensor([clean])
        return anchor(noisy, clean, torch.zeros_like(clean, dtype=torch.bool), BLANK)

    def bound(self, family, raw, shares, time=torch.square):
        """Nats of each string, Float64[strings]: the family's bound at the raw outputs raw(t), over all ways and times.

        `time` maps even numbers to times as the family's own times are mapped.
        """
        paths = [self.path(way) for way in self.found]
        joint = Path(*(torch.cat([getattr(path, field.name) for path in paths]) for field in fields(Path)))
        strings = list(dict.fromkeys(way.string for way in self.found))
        of = torch.tensor([strings.index(way.string) for way in self.found])
        p = torch.tensor([way.p for way in self.found], dtype=torch.float64)
        total = torch.zeros(len(strings), dtype=torch.float64)
        for node, weight in times(power=2):
            t = time(torch.full((len(paths), 1), node, dtype=torch.float64))
            nats = (family.bound or family.objective).loss(self.at(raw(t[:1, 0]), joint.noisy), joint, t).sum(-1)
            chance = weights(self.found, shares(t[:1, 0])) / p
            # what cannot be may cost without limit
            total.index_add_(0, of, weight * torch.where(chance > 0, chance * nats, 0.0))
        return total


def inverse_softplus(rate):
    """x with softplus(x) = rate; -inf for 0."""
    return rate + torch.log(-torch.expm1(-rate))


def chi_square(counts, p):
    """How many standard deviations the chi-square statistic of the counts lies above its mean."""
    expected = p * counts.sum()
    degrees = len(p) - 1
    return float((((counts - expected) ** 2 / expected).sum() - degrees) / (2 * degrees) ** 0.5)


def last(states):
    """The last canvas of a run."""
    return collections.deque(states, maxlen=1)[0]


def generated(texts, strings):
    """Float64[strings + 1]: how often each string of the source was written, and anything else."""
    counts = Counter(map(tuple, texts))
    known = [counts.pop(string, 0) for string in strings]
    return torch.tensor([*known, sum(counts.values())], dtype=torch.float64)
