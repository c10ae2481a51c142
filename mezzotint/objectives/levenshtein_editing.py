"""Learning to edit one's own drafts, deletions and insertions among the edits (LLaDA2.2's Levenshtein training).

Masks are filled as ever; then the network reads what it has just written, and is told block by block which of its
columns to keep, replace or delete, and before which to insert a mask.  Two ids of the vocabulary say the last two.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mezzotint.batch import Batch
from mezzotint.layouts import Layout
from mezzotint.objectives.base import Loss
from mezzotint.objectives.times import Times
from mezzotint.processes.absorbing import Absorbing
from mezzotint.rng import Rng


@dataclass(frozen=True)
class LevenshteinEditing:
    """Cross-entropy at masks, then at all target columns of the draft that comes of it; the mean of both rounds."""

    process: Absorbing
    edit_ids: tuple[int, int]
    """Ids that delete a column and that insert a mask before it."""
    block: int
    """Columns that are edited together; what is given inside stays where it is."""
    times: Times
    layout: Layout

    def __call__(self, denoiser: Any, batch: Batch, rng: Rng) -> Loss:
        """The loss on one batch, two passes of the network."""
        mask_id, x_0 = self.process.mask_id, batch.tokens
        t = self.times(batch, rng).expand(x_0.shape)
        masked = (self.process.corrupt(x_0, t, rng) == mask_id) & batch.target
        raw = self._logits(denoiser, x_0.masked_fill(masked, mask_id), x_0, t)
        fill = (_nats(raw, x_0) * masked).sum() / masked.sum().clamp_min(1)

        never = torch.tensor([mask_id, *self.edit_ids], device=x_0.device)
        draft = torch.where(masked, raw.detach().index_fill(-1, never, -torch.inf).argmax(-1), x_0)
        again = self._logits(denoiser, draft, x_0, torch.zeros_like(t))
        count = batch.target.sum()
        edit = (_nats(again, self.labels(draft, batch)) * batch.target).sum() / count.clamp_min(1)
        return Loss((fill + edit) / 2, count, metrics={"fill": fill.detach(), "edit": edit.detach()})

    def labels(self, draft: Tensor, batch: Batch) -> Tensor:
        """Long[B, L]: what each target column of a draft should become; the others keep their token."""
        said = batch.tokens.clone()
        for row, free in enumerate(batch.target):
            for places in free.nonzero()[:, 0].split(_blocks(free, self.block)):
                one, other = draft[row, places].tolist(), batch.tokens[row, places].tolist()
                said[row, places] = torch.tensor(
                    edits(one, other, self.process.mask_id, self.edit_ids), device=said.device
                )
        return said

    def _logits(self, denoiser: Any, x: Tensor, x_0: Tensor, t: Tensor) -> Tensor:
        raw = self.layout.extract(denoiser(self.layout.arrange(x, x_0), t))
        return raw.to(torch.promote_types(raw.dtype, torch.float32))


def edits(draft: Sequence[int], text: Sequence[int], mask_id: int, edit_ids: tuple[int, int]) -> list[int]:
    """For every token of a draft the one that edits it: itself, another one, or an id that deletes or inserts.

    Tokens in common stay.  What is between two of them is replaced one by one; a surplus is deleted, and where tokens
    are missing one mask is inserted before the second.  Behind the last of them masks are filled, all else is deleted.
    """
    delete, insert = edit_ids
    said: list[int] = []
    a = b = 0
    for i, j in common(draft, text):
        gap, wanted = draft[a:i], text[b:j]
        said += [*wanted[: len(gap)], *[delete] * (len(gap) - len(wanted))]
        said.append(insert if len(wanted) > len(gap) else draft[i])
        a, b = i + 1, j + 1
    rest = iter(text[b:])
    return [*said, *(next(rest, delete) if token == mask_id else delete for token in draft[a:])]


def common(one: Sequence[int], other: Sequence[int]) -> list[tuple[int, int]]:
    """Places of a longest common subsequence, the leftmost one."""
    longest = [[0] * (len(other) + 1) for _ in range(len(one) + 1)]
    for i in reversed(range(len(one))):
        for j in reversed(range(len(other))):
            same = one[i] == other[j]
            longest[i][j] = 1 + longest[i + 1][j + 1] if same else max(longest[i + 1][j], longest[i][j + 1])
    i = j = 0
    found: list[tuple[int, int]] = []
    while i < len(one) and j < len(other):
        if one[i] == other[j]:
            found.append((i, j))
            i, j = i + 1, j + 1
        elif longest[i + 1][j] >= longest[i][j + 1]:
            i += 1
        else:
            j += 1
    return found


def _blocks(free: Tensor, block: int) -> list[int]:
    """How many of Bool[L] are in each block that has any."""
    return [count for each in free.split(block) if (count := int(each.sum()))]


def _nats(raw: Tensor, tokens: Tensor) -> Tensor:
    return raw.logsumexp(-1) - raw.gather(-1, tokens[..., None])[..., 0]
