"""The entropy bound with columns ranked by another score (EB-sampler, 2505.24857, eq. 8; RND1)."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from mezzotint.decode.canvas import Canvas, Step
from mezzotint.decode.propose import negative_entropy
from mezzotint.decode.rule import Unmask
from mezzotint.decode.select import rank
from mezzotint.rng import Rng


@dataclass(frozen=True)
class JointBound:
    """The longest run of surest columns whose entropies, without the largest among them, sum to at most `gamma` nats.

    `select.EntropyBound` is the case in which columns are ranked by their entropies.
    """

    rule: Unmask
    """Its selector is not asked; its proposal's score ranks."""
    gamma: float | Tensor = 0.1

    def __call__(self, raw: Tensor, canvas: Canvas, step: Step, rng: Rng) -> Canvas:
        """The canvas after one step, from logits Float[B, W, V]."""
        for shape in self.rule.shapers:
            raw = shape(raw, canvas, step)
        nats = -negative_entropy(raw, canvas.tokens)

        def select(score: Tensor, open: Tensor, budget: Tensor) -> Tensor:
            order = rank(score, open)
            ranked = torch.zeros_like(nats).scatter(-1, order, nats.clamp_min(0))
            spent = ranked.cumsum(-1) - ranked.cummax(-1).values
            return open & ((spent <= self.gamma).gather(-1, order) | (order == 0))

        return replace(self.rule, select=select, shapers=())(raw, canvas, step, rng)
