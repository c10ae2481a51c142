"""KLASS: commit where the prediction is sure and has stopped moving (2511.05664)."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from mezzotint.decode.canvas import Canvas, Step
from mezzotint.decode.rule import Unmask
from mezzotint.decode.select import most_confident
from mezzotint.rng import Rng


@dataclass(frozen=True)
class KlassRule:
    """Columns surer than `tau` whose last `history` Kullback-Leibler steps were below `eps` nats, else the budget's.

    Notes of the canvas: log-probabilities of the window at the last step, Float[B, W, V], and for how many steps each
    column has been still, Long[B, W].  They begin anew with every window.
    """

    rule: Unmask
    """Its selector is not asked."""
    tau: float | Tensor = 0.9
    eps: float | Tensor = 0.01
    history: int = 2

    def __call__(self, raw: Tensor, canvas: Canvas, step: Step, rng: Rng) -> Canvas:
        """The canvas after one step."""
        now = raw.log_softmax(-1)
        still = torch.zeros(raw.shape[:2], dtype=torch.long, device=raw.device)
        if step.k and canvas.notes:
            last, still = canvas.notes
            # a token that a shaper rules out adds nothing, not 0 times infinity
            moved = (now.exp() * (now - last).nan_to_num(0.0)).sum(-1)
            still = torch.where(moved < self.eps, still + 1, 0)
        calm = still >= self.history

        def select(score: Tensor, open: Tensor, budget: Tensor) -> Tensor:
            ready = open & calm & (score > self.tau)
            return torch.where(ready.any(-1, keepdim=True), ready, most_confident(score, open, budget))

        return replace(replace(self.rule, select=select)(raw, canvas, step, rng), notes=(now, still))
