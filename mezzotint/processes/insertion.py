"""Tokens that join a text as masks and are revealed later: the process of FlexMDM (Kim et al. 2025, arXiv 2509.01025).

Seen from the clean end, a token turns into [MASK] at some time and disappears at a later one.  `insert` is the
schedule of presence, `reveal` that of being revealed once present; the paper's alpha and beta, its time is 1 - t.
"""

import numpy as np
import torch
from torch import Tensor

from mezzotint.errors import VocabularyError
from mezzotint.processes.base import Process
from mezzotint.rng import Rng
from mezzotint.schedules import Survival

_REVEALED = 0x0F1E
_NODES = 96


class Insertion(Process):
    """q(x_t | x_0): each token clean, [MASK] or blank, in its own column; a text's blanks stay blank."""

    def __init__(self, vocab: int, mask_id: int, insert: Survival, reveal: Survival) -> None:
        """`vocab` counts every id, [MASK] included; the blank is the id behind them.

        Raises:
            VocabularyError: `mask_id` is not one of the ids.
        """
        super().__init__()
        if not 0 <= mask_id < vocab:
            raise VocabularyError(
                f"cannot use {mask_id} as the mask token: the vocabulary has the ids 0 to {vocab - 1}"
            )
        self.vocab, self.mask_id, self.blank = vocab, mask_id, vocab
        self.schedule = self.insert = insert
        self.reveal = reveal

    def corrupt(self, x_0: Tensor, t: Tensor, rng: Rng) -> Tensor:
        """Long[B, L]: the insertion level of a token is uniform, its revealing level uniform above that time's."""
        shape, device = tuple(x_0.shape), x_0.device
        joined = rng.uniform(shape, device)
        since = self.reveal.alpha(self.insert.time(joined))
        revealed = since + (1 - since) * rng.fork(_REVEALED).uniform(shape, device)
        x_t = torch.where(revealed <= self.reveal.alpha(t), x_0, self.mask_id)
        return torch.where((joined <= self.insert.alpha(t)) & (x_0 != self.blank), x_t, self.blank)

    def prior(self, shape: tuple[int, int], device: torch.device | str | None, rng: Rng | None = None) -> Tensor:
        """Long[B, L], all blank: the empty text."""
        return torch.full(shape, self.blank, device=device)

    def shares(self, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """How likely a token is clean, [MASK] and absent at t; shapes of t.

        P([MASK]) integrates (1 - beta(t)) / (1 - beta) over the insertion levels below alpha(t); for two linear
        schedules it is -(1 - a) log(1 - a) with a = alpha(t).
        """
        level = self.insert.alpha(t).double()
        nodes, weights = (torch.from_numpy(x).to(t.device) for x in np.polynomial.legendre.leggauss(_NODES))
        joined = level[..., None] * (nodes + 1) / 2
        hidden = 1 / (1 - self.reveal.alpha(self.insert.time(joined)))
        mask = (1 - self.reveal.alpha(t).double()) * level * (hidden * weights / 2).sum(-1)
        return level - mask, mask, 1 - level
