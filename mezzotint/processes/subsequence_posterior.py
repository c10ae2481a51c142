"""In which columns of a text a shorter one may stand, when all ways to drop columns are equally likely.

Whoever sees only what is left of a text, and the text, knows no more than this of what is missing where; it is the
exact posterior of processes that drop (and mask) every column by itself, at the same rate.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def embedded(match: Tensor, optional: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
    """Posteriors over all ways to find the first `counts` tokens of each row, in order, in the row's columns.

    Args:
        match: Bool[B, I, J], whether token i may be what column j holds.
        optional: Bool[B, J], whether column j may be missing.
        counts: Long[B], tokens of each row, at most I; there must be at least one way.

    Returns:
        Float64[B, I, J], how likely token i is column j; Float64[B, I, J], how likely column j is missing and stands
        right of token i, before token i + 1.
    """
    rows, tokens, columns = match.shape
    held = torch.where(match, 0.0, -torch.inf).double()
    missed = torch.where(optional, 0.0, -torch.inf).double()[:, None]
    # in how many ways the first j columns hold the first i tokens; at once from the right, with both texts reversed
    both = torch.cat([held, held.flip(1, 2)]), torch.cat([missed, missed.flip(2)])
    begin = torch.cat([torch.zeros_like(counts), tokens - counts])
    ways = torch.where(torch.arange(tokens + 1, device=match.device) == begin[:, None], 0.0, -torch.inf).double()
    steps = [ways]
    for column in range(columns):
        taken = F.pad(ways[:, :-1] + both[0][:, :, column], (1, 0), value=-torch.inf)
        ways = torch.logaddexp(ways + both[1][:, :, column], taken)
        steps.append(ways)
    before, after = torch.stack(steps, -1).split(rows)
    after = after.flip(1, 2)
    whole = before[..., -1].gather(-1, counts[:, None])[..., None]
    here = (before[:, :-1, :-1] + after[:, 1:, 1:] + held - whole).exp()
    gone = (before[:, 1:, :-1] + after[:, 1:, 1:] + missed - whole).exp()
    return here, gone


def runs(same: Tensor) -> Tensor:
    """Long, shape of Bool[B, I, ...] `same`: where the run of each place along I began; `same` goes on with one."""
    places = torch.arange(same.shape[1], device=same.device).reshape(1, -1, *[1] * (same.ndim - 2))
    return torch.where(same, 0, places).cummax(1).values
