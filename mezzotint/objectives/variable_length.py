"""The path of objectives over texts of changing length: align, corrupt, anchor, denoise, weigh.

Both ends of a path have the same columns, with a blank where one of them holds nothing; the network sees no blanks.
An anchor column in front carries what happens before the first token.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from mezzotint.batch import Batch
from mezzotint.layouts import Attend, Inputs
from mezzotint.objectives.base import Loss
from mezzotint.objectives.times import Times
from mezzotint.processes.subsequence_posterior import embedded
from mezzotint.rng import Rng

Corrupt = Callable[[Batch, Tensor, Rng], tuple[Tensor, Tensor, Tensor]]
"""(batch, t, rng) -> noisy columns, clean columns, Long[B, Z]; given columns, Bool[B, Z]."""


@dataclass(frozen=True)
class Path:
    """A noisy text beside its clean one, an anchor in front; all [B, N]."""

    noisy: Tensor
    clean: Tensor
    present: Tensor
    """Bool: columns that the network sees."""
    editable: Tensor
    """Bool: present columns whose token may change or go."""
    gaps: Tensor
    """Bool: present columns that tokens may be inserted right of: all but those inside and right before given text."""
    left: Tensor
    """Long: the present column at or left of each column; what is missing in a column is inserted right of it."""

    def at_left(self, values: Tensor) -> Tensor:
        """Float[B, N]: every column's value is that of its `left`."""
        return values.gather(-1, self.left)

    def placed(self, match: Tensor) -> tuple[Tensor, Tensor]:
        """How likely present column i is clean column j, and how likely j is missing right of i; both Float64[B, N, N].

        Only what the noisy and the clean text say counts, not how they were aligned: all ways to put the one into the
        other are equally likely.  `match` Bool[B, N, N] says which present columns may be which clean ones; given text,
        and nothing else, is where it is.
        """
        fixed = self.present & ~self.editable
        own = torch.diag_embed(fixed)
        match = torch.where(fixed[:, :, None] | fixed[:, None], own, match & self.present[:, :, None])
        order = (~self.present).long().argsort(dim=-1, stable=True)
        packed = match.gather(1, order[:, :, None].expand_as(match))
        back = order.argsort(-1)[:, :, None].expand_as(match)
        held, missing = embedded(packed, ~fixed, self.present.sum(-1))
        return held.gather(1, back), missing.gather(1, back)


class PathLoss(Protocol):
    """(raw Float[B, N, *], path, t Float[B, 1]) -> nats Float[B, N], zero in columns without a say."""

    def __call__(self, raw: Tensor, path: Path, t: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class VariableLength:
    """An objective over texts of changing length, (denoiser, batch, rng) -> Loss.

    `batch.tokens` may hold blanks behind shorter texts, with `batch.target` false.  `total` is per target token; with a
    bound's weights it bounds the text and its length.  `per_token` spreads a row's nats evenly over its target.
    """

    corrupt: Corrupt
    loss: PathLoss
    times: Times
    blank: int

    def __call__(self, denoiser: Any, batch: Batch, rng: Rng) -> Loss:
        t = self.times(batch, rng)
        path = anchor(*self.corrupt(batch, t, rng), self.blank)
        columns = path.noisy.shape[1]
        inputs = Inputs(path.noisy, torch.arange(columns, device=t.device), Attend(columns, columns))
        nats = self.loss(denoiser(inputs, t), path, t).sum(-1, keepdim=True)
        tokens = batch.target.sum(-1, keepdim=True).clamp_min(1)
        count = batch.target.sum().clamp_min(1)
        return Loss(nats.sum() / count, count, nats / tokens * batch.target)


def anchor(noisy: Tensor, clean: Tensor, given: Tensor, blank: int) -> Path:
    """The path with an anchor in front, from noisy and clean Long[B, Z]; `given` Bool[B, Z] is no part of the task."""
    noisy, clean = (F.pad(x, (1, 0), value=blank) for x in (noisy, clean))
    given = F.pad(given, (1, 0), value=True)
    columns = torch.arange(noisy.shape[1], device=noisy.device)
    present = (noisy != blank) | (columns == 0)
    # a blank column is a hole whatever its batch says: texts end where nothing follows
    free = ~given | ((clean == blank) & (columns > 0))
    gaps = present & (free | F.pad(free[:, 1:], (0, 1), value=False))
    left = torch.where(present, columns, 0).cummax(-1).values
    return Path(noisy, clean, present, present & free, gaps, left)
