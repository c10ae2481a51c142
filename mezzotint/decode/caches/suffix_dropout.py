"""Suffix dropout (DPad, 2508.14148): most masks behind the window are not read; as Crys-Chen/DPad does."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from mezzotint.decode.caches.policies import CacheStore, Read
from mezzotint.decode.canvas import Canvas, Step
from mezzotint.rng import Rng


@dataclass(frozen=True)
class SuffixDropout:
    """Behind the window only some columns are read, the nearer the likelier; they keep their positions.

    A column at distance d behind the window stays with the chance scale N(x; 0, 1), where x runs from 0 to `sigma` over
    `reach` columns; none stays farther off.  Columns are drawn anew for every window, by `seed` and by how many columns
    stand behind it, so that texts of a batch share them and a text alone meets the same ones.
    """

    reach: int = 256
    sigma: float = 4.0
    scale: float = 2.0
    seed: int = 0

    def __call__(self, store: CacheStore, canvas: Canvas, step: Step) -> Sequence[Read]:
        """The pass of this step."""
        columns = step.window.columns()
        device, width = columns.device, canvas.tokens.shape[1]
        end = int((step.window.start + step.window.size).amax())
        behind = torch.arange(min(self.reach, width - end), device=device)
        x = behind * (self.sigma / max(1, self.reach - 1))
        chance = self.scale * (-x.square() / 2).exp() / math.sqrt(2 * math.pi)
        drawn = Rng(torch.tensor([self.seed], device=device), width - end).uniform((1, len(behind)), device)[0]
        read = torch.cat([torch.arange(end, device=device), end + behind[drawn < chance]])
        return [Read(read.expand(len(columns), -1), 0, (columns - store.lookback).clamp_min(0))]
