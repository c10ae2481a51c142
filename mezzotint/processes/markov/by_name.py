"""D3PM's chains by their names, and what those that follow a text need to know of it (2107.03006, App. A.2 and A.3)."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from mezzotint.errors import ConfigError
from mezzotint.processes.markov import beta_schedules, transition_matrices
from mezzotint.processes.markov.chain import MarkovChain, Mixing, Powers, even, mask, survival

MOST = 4096
"""Ids of which a matrix over all of them is still made."""


def betas(name: str, steps: int, high: float) -> Tensor:
    """Float64[T]: how often each step acts; `high` is the last of a linear table."""
    make: dict[str, Callable[[int], Tensor]] = {
        "standard": beta_schedules.standard,
        "cosine": beta_schedules.cosine,
        "linear": lambda count: beta_schedules.linear(count, 1e-4, high),
    }
    return make[name](steps)


def chain(
    name: str, beta: Tensor, vocab: int, mask_id: int, width: int, nearest: Sequence[Sequence[int]] = ()
) -> MarkovChain:
    """The chain of that name by Float64[T] `beta`; all but the absorbing one spare [MASK].

    `width` is that of a band; `nearest` are the neighbours of every id, of which beta is a rate, rounded to powers of
    the smallest step, as published.

    Raises:
        ConfigError: a chain of neighbours without any.
    """
    make: dict[str, Callable[[], MarkovChain]] = {
        "absorbing": lambda: Mixing(survival(beta), mask(vocab, mask_id)),
        "uniform": lambda: Mixing(survival(beta), even(vocab, but=mask_id)),
        "gaussian": lambda: transition_matrices.without(transition_matrices.gaussian(vocab - 1, beta, 1.0), mask_id),
        "band": lambda: transition_matrices.without(transition_matrices.band(vocab - 1, beta, width), mask_id),
        "neighbours": lambda: _nearby(nearest, *beta_schedules.rounded(beta), mask_id),
    }
    return make[name]()


def even_loss(
    name: str, counts: Sequence[int], nearest: Sequence[Sequence[int]], steps: int, mask_id: int
) -> MarkovChain:
    """The chain of which every step takes as much of the information about x_0 (App. A.3, mutual information).

    As published k / (T + 1) of it is gone after step k.  Into [MASK] that is the standard table itself.

    Args:
        name: absorbing, uniform or neighbours.
        counts: how often each id is in the text.
        nearest: of every id those that it may become, for neighbours.
        steps: T.
        mask_id: [MASK].

    Raises:
        ConfigError: another chain, or no counts.
    """
    vocab = len(counts)
    if name == "absorbing":
        return Mixing(survival(beta_schedules.standard(steps)), mask(vocab, mask_id))
    if name not in ("uniform", "neighbours"):
        raise ConfigError(f"the {name} chain is no power of one matrix: use table=linear, standard or cosine")
    p_0 = torch.tensor(counts, dtype=torch.float64)
    if int((p_0 > 0).sum()) < 2:
        raise ConfigError("a table by mutual information needs a text of two tokens or more: give their counts")
    removed = torch.arange(1, steps + 1, dtype=torch.float64) / (steps + 1)
    end = even(vocab, but=mask_id)
    if name == "neighbours":
        rates = _rates(nearest)
        grid = torch.logspace(-3, 4, 128, dtype=torch.float64)
        found = beta_schedules.by_information(
            lambda amount: transition_matrices.power(rates, amount), p_0 / p_0.sum(), removed, grid
        )
        powers = torch.cat([torch.zeros(1), found / found[0]]).round().long()
        return _nearby(nearest, float(found[0]), powers, mask_id)

    def after(amount: float) -> Tensor:
        kept = torch.tensor(-amount, dtype=torch.float64).exp()
        return kept * torch.eye(vocab, dtype=torch.float64) + (1 - kept) * end

    grid = torch.logspace(-4, 5, 128, dtype=torch.float64)
    found = beta_schedules.by_information(after, p_0 / p_0.sum(), removed, grid)
    return Mixing(torch.cat([torch.zeros(1, dtype=torch.float64), -found]).exp(), end)


def occurrences(ids: Tensor, vocab: int) -> tuple[int, ...]:
    """How often each id is in Long[N]."""
    return tuple(torch.bincount(ids, minlength=vocab).tolist())


def alike(ids: Tensor, vocab: int, k: int) -> tuple[tuple[int, ...], ...]:
    """Of every id the `k` that stand in the most similar places in the text Long[N]; none of an id that is not there.

    Embeddings are how much likelier than by chance each id stands left and right, in logarithms, never below 0.

    Raises:
        ConfigError: fewer than k other ids, or too many for a matrix over all of them.
    """
    if vocab > MOST:
        raise ConfigError(f"neighbours need a matrix over all {vocab} ids, and {MOST} are the most: use uniform noise")
    pairs = torch.bincount(ids[:-1] * vocab + ids[1:], minlength=vocab**2).reshape(vocab, vocab).double()
    places = torch.cat([pairs, pairs.mT], 1)
    chance = places.sum(1, keepdim=True) * places.sum(0) / places.sum().clamp_min(1)
    vectors = (places / chance.clamp_min(1e-30)).clamp_min(1).log()
    there = (places.sum(1) > 0).nonzero()[:, 0]
    rows: list[tuple[int, ...]] = [()] * vocab
    for place, near in zip(there.tolist(), transition_matrices.nearest(vectors[there], k), strict=True):
        rows[place] = tuple(there[near].tolist())
    return tuple(rows)


def _nearby(nearest: Sequence[Sequence[int]], least: float, powers: Tensor, mask_id: int) -> Powers:
    """Powers of a move by `least`."""
    rates = _rates(nearest)
    return Powers(transition_matrices.power(rates, least), powers, even(len(rates), but=mask_id))


def _rates(nearest: Sequence[Sequence[int]]) -> Tensor:
    """Raises ConfigError without any neighbours."""
    if not any(nearest):
        raise ConfigError("a chain of neighbours needs those of every id: give nearest, or train on a text")
    return transition_matrices.rates(nearest)
