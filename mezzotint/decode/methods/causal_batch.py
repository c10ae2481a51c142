"""Batched causal passes over drafts, of which more are accepted in one text than in another.

Rows share the columns of one memory.  After a pass as many of its columns stay as drafts are accepted in the text that
has most; in the others some of these hold rejected drafts, and nobody attends to them.  When they have filled the
memory, what is accepted moves together: keys know their place in the text, so where they are kept means nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from mezzotint.decode.caches.policies import KeyValueMemory
from mezzotint.decode.reader import Network
from mezzotint.layouts import Attend, Inputs
from mezzotint.masks import Mask, causal_behind

Texts = Sequence[Sequence[int]]


@dataclass
class CausalBatch:
    """What a causal network has read of some texts."""

    network: Network
    most: int
    """Columns of the memory: what a pass reads behind the longest text must fit."""
    device: torch.device | str
    mask_id: int = 0
    count: int = 0
    """So many masks are read behind every number of drafts that may stand, and forgotten again."""
    memory: KeyValueMemory | None = None
    seen: Tensor = field(default_factory=lambda: torch.empty(0))
    """Bool[B, S]: columns of the memory that stand."""
    fresh: Tensor = field(default_factory=lambda: torch.empty(0))
    """Bool[B, N]: columns of the last pass that hold text or drafts, masks left out."""
    read: list[int] = field(default_factory=list)
    """Tokens of each text in the memory."""

    def __call__(
        self, texts: Texts, live: Sequence[bool], drafts: list[list[int]]
    ) -> tuple[Tensor, list[list[int]], int]:
        """Read what is not read yet of the texts that go on, and drafts behind them.

        Returns:
            Float[B, n, V], logits from each text's last token on: behind the text, behind each draft, then those of the
            masks; the drafts, fewer where the memory has no room for more; and how many columns were read.
        """
        if self.memory is None:
            self.memory = self.network.memory(len(texts), self.most)
            self.seen, self.read = torch.zeros(len(texts), 0, dtype=torch.bool, device=self.device), [0] * len(texts)
        drafts = [row if alive else [] for row, alive in zip(drafts, live, strict=True)]
        ahead = max(map(len, drafts))
        if self.memory.length + self._unread(texts, live) + self._behind(ahead) > self.most:
            self._close_up(live)
        before, unread = self.memory.length, self._unread(texts, live)
        while self._behind(ahead) > self.most - before - unread:
            ahead -= 1
        drafts = [row[:ahead] for row in drafts]
        tokens, places, self.fresh = self._laid(texts, live, drafts, (unread, ahead))
        valid, mask = torch.cat([self.seen, self.fresh], -1), causal_behind(before)
        if self.count:
            sets = (ahead + 1) * self.count
            tokens = F.pad(tokens, (0, sets), value=self.mask_id)
            places = torch.cat([places, self._places(texts, ahead)], -1)
            valid, mask = F.pad(valid, (0, sets), value=True), behind_sets(before, unread, ahead + 1, self.count)
        attend = Attend(tokens.shape[1], before + tokens.shape[1], mask, None if bool(valid.all()) else valid)
        h = self.network.hidden(Inputs(tokens, places, attend, memory=self.memory), None)
        return self.network.head(h[:, unread - 1 :]), drafts, tokens.shape[1]

    def keep(self, texts: Texts, live: Sequence[bool], stand: Sequence[int]) -> None:
        """Of the last pass keep the texts, and of each one's drafts so many."""
        assert self.memory is not None
        unread, most = self._unread(texts, live), max(stand)
        stood = torch.arange(most, device=self.device) < torch.tensor(stand, device=self.device)[:, None]
        texts_part, drafts_part = self.fresh[:, :unread], self.fresh[:, unread : unread + most]
        self.seen = torch.cat([self.seen, texts_part, drafts_part & stood], -1)
        self.memory.truncate(self.seen.shape[1])
        self.read = [
            len(text) + n if alive else old for text, n, alive, old in zip(texts, stand, live, self.read, strict=True)
        ]

    def _close_up(self, live: Sequence[bool]) -> None:
        """Leave no column in the memory that nobody sees; texts that do not go on are forgotten."""
        assert self.memory is not None
        seen = self.seen & torch.tensor(live, device=self.device)[:, None]
        count = seen.sum(-1)
        most = int(count.max())
        self.memory.gather((~seen).long().argsort(dim=-1, stable=True)[:, :most])
        self.seen = torch.arange(most, device=self.device) < count[:, None]
        self.read = [done if alive else 0 for done, alive in zip(self.read, live, strict=True)]

    def _unread(self, texts: Texts, live: Sequence[bool]) -> int:
        """Columns for what is not read of the texts that go on."""
        return max(len(text) - done for text, done, alive in zip(texts, self.read, live, strict=True) if alive)

    def _behind(self, ahead: int) -> int:
        """Columns that are read behind the texts."""
        return ahead + (ahead + 1) * self.count

    def _laid(
        self, texts: Texts, live: Sequence[bool], drafts: list[list[int]], sizes: tuple[int, int]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Long, Long and Bool[B, unread + ahead]: tokens, places, and which hold something; all texts end together."""
        unread, ahead = sizes
        rows: list[list[tuple[int, int, bool]]] = []
        for text, done, alive, row in zip(texts, self.read, live, drafts, strict=True):
            mine = [(token, done + i, True) for i, token in enumerate([*text[done:], *row])] if alive else []
            left = unread - (len(text) - done if alive else 0)
            rows.append([*[(0, 0, False)] * left, *mine, *[(0, 0, False)] * (unread + ahead - left - len(mine))])
        laid = torch.tensor(rows, device=self.device)
        return laid[..., 0], laid[..., 1], laid[..., 2].bool()

    def _places(self, texts: Texts, ahead: int) -> Tensor:
        """Long[B, (ahead + 1) count]: a set's first mask stands where its next token will, and says what follows."""
        starts = torch.tensor([len(text) for text in texts], device=self.device)
        sets, masks = (torch.arange(size, device=self.device) for size in (ahead + 1, self.count))
        return (starts[:, None, None] + sets[:, None] + masks).flatten(1)


def behind_sets(before: int, unread: int, sets: int, count: int) -> Mask:
    """Who sees whom among text, drafts and sets of masks: set s stands behind s drafts, and no set sees another.

    Args:
        before: columns read earlier, which all see.
        unread: columns of text, followed by one draft less than there are sets.
        sets: sets of masks.
        count: masks of a set.
    """
    line = unread + sets - 1

    def mask(row: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        at = key - before
        which, whose = (query - line).div(count, rounding_mode="floor"), (at - line).div(count, rounding_mode="floor")
        own_text = torch.where(query < line, at <= query, at < unread + which)
        own = (query >= line) & (at >= line) & (which == whose) & (at <= query)
        return (at < 0) | (at < line) & own_text | own

    return mask
