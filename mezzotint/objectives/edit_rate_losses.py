"""What edits cost that are still to be made, per unit of the rate at which columns turn clean.

An edit that is due `count` times and made at a rate costs rate - count log rate + count log count - count, at least
zero.  `aligned` counts what an alignment says.  `inserted` and `joined` count what is expected of all ways in which the
noisy text may stand in the clean one, and take edits that lead to the same text for one: this is all that the two texts
say, so the exact rates cost a text no more than its -log p.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from mezzotint.objectives.variable_length import Path
from mezzotint.processes.subsequence_posterior import runs

Cost = Callable[[Path, Tensor, Tensor, Tensor, int], Tensor]
"""`aligned` or `inserted`."""


def owed(count: Tensor, log_rate: Tensor) -> Tensor:
    """What an edit costs beside its rate: -count log rate + count log count - count, zero where nothing is due.

    In nats; the shapes broadcast.
    """
    return torch.where(count > 0, torch.xlogy(count, count) - count * (log_rate + 1), 0.0)


def aligned(path: Path, rates: Tensor, inserted: Tensor, replaced: Tensor, blank: int) -> Tensor:
    """Nats Float[B, N] of all edits that the columns of an alignment still owe, as if they said where each one goes.

    Args:
        path: the texts, column by column.
        rates: Float[B, N, 3], of insertions right of each column, of deletions and of replacements.
        inserted: Float[B, N, V], log-probabilities of the new tokens.
        blank: the id of nothing.
    """
    out = rates[..., 0] * path.gaps + rates[..., 1:].sum(-1) * path.editable
    pending, missing = path.noisy != path.clean, path.noisy == blank
    token = torch.where(path.clean == blank, 0, path.clean)[..., None]
    rows = path.left[..., None].expand(-1, -1, inserted.shape[-1])
    log_rates = logarithm(rates)
    insert = path.at_left(log_rates[..., 0]) + inserted.gather(1, rows).gather(-1, token)[..., 0]
    replace = log_rates[..., 2] + replaced.gather(-1, token)[..., 0]
    log_rate = torch.where(missing, insert, torch.where(path.clean == blank, log_rates[..., 1], replace))
    # the same token twice in one place is one edit
    twins = (path.left[:, :, None] == path.left[:, None]) & (path.clean[:, :, None] == path.clean[:, None])
    same = torch.where(missing, (twins & (pending & missing)[:, None]).sum(-1), 1).clamp_min(1)
    return out + torch.where(pending, same.to(rates.dtype).log() - log_rate - 1, 0.0)


def inserted(path: Path, rates: Tensor, inserted: Tensor, replaced: Tensor, blank: int) -> Tensor:
    """As `aligned`, nats Float[B, N], where the noisy text is a part of the clean one and only insertions are due.

    The same token anywhere in or beside a run of it is one edit.
    """
    match = path.noisy[:, :, None] == path.clean[:, None]
    _, missing = path.placed(match)
    count = _summed(missing.to(rates.dtype), path, blank)
    run = runs(~path.present[:, :, None] | (match & path.editable[:, :, None]))
    count = torch.zeros_like(count).scatter_add(1, run, count)
    rate = rates[..., 0] * path.gaps
    log_rate = logarithm(rate)[..., None] + _of_clean(inserted, path, blank)
    return rate + rates[..., 1:].sum(-1) * path.editable + owed(count, _log_sum(log_rate, run)).sum(-1)


def joined(path: Path, rate: Tensor, logp: Tensor, mask_id: int, blank: int) -> tuple[Tensor, Tensor]:
    """Nats of inserting masks at `rate`, Float[B, N], and of revealing them with `logp`, Float[B, N, V]; both [B, N].

    A mask more in a run of them is one edit, wherever it enters.
    """
    hidden = path.editable & (path.noisy == mask_id)
    real = path.clean != blank
    match = hidden[:, :, None] | (path.noisy[:, :, None] == path.clean[:, None])
    held, missing = path.placed(match & real[:, None])
    count = (missing * real[:, None]).sum(-1).to(rate.dtype)
    run = runs(~path.present | hidden)
    count, rate = (torch.zeros_like(rate).scatter_add(1, run, values) for values in (count, rate * path.gaps))
    joins = rate + owed(count, logarithm(rate))
    share = _summed(held.to(rate.dtype), path, blank)
    reveals = torch.where(
        hidden[..., None] & (share > 0), torch.xlogy(share, share) - share * _of_clean(logp, path, blank), 0.0
    )
    return joins, reveals.sum(-1)


def _summed(values: Tensor, path: Path, blank: int) -> Tensor:
    """Float[B, N, N]: sums over the clean columns that hold the same token, at the first of them; no blanks."""
    first = (path.clean[:, :, None] == path.clean[:, None]).long().argmax(-1)
    values = values * (path.clean != blank)[:, None]
    return torch.zeros_like(values).scatter_add(2, first[:, None].expand_as(values), values)


def _of_clean(logp: Tensor, path: Path, blank: int) -> Tensor:
    """Float[B, N, N]: log-probability, right of or at column i, of the token that the clean text has in column j."""
    token = torch.where(path.clean == blank, 0, path.clean)
    return logp.gather(-1, token[:, None].expand(-1, logp.shape[1], -1))


def logarithm(values: Tensor) -> Tensor:
    """log of what is at least zero, finite; any shape."""
    return values.clamp_min(torch.finfo(values.dtype).tiny).log()


def _log_sum(values: Tensor, place: Tensor) -> Tensor:
    """log of the sum of exp of the values that go to each place, both [B, I, J], along I."""
    top = torch.full_like(values, -torch.inf).scatter_reduce(1, place, values, "amax").detach()
    top = top.masked_fill(top == -torch.inf, 0.0)
    total = torch.zeros_like(values).scatter_add(1, place, (values - top.gather(1, place)).exp())
    return logarithm(total) + top
