"""Which decided columns of the window to reopen.

A revision maps (canvas, step, noise) to Bool[B, W].  It sees the canvas after the step's commits, which carry the
step's number in `born`; it never reopens those, nor what was given.  No revision is `None`.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from mezzotint.decode.canvas import Canvas, Step
from mezzotint.decode.propose import NoiseSource
from mezzotint.decode.select import rank
from mezzotint.schedules import Survival

Revise = Callable[[Canvas, Step, NoiseSource], Tensor]
Edit = Callable[[Tensor, Tensor], Tensor]
"""(score Float[B, W], decided columns whose proposal is another token Bool[B, W]) -> Bool[B, W] to overwrite."""


@dataclass(frozen=True)
class Remask:
    """ReMDM: every older column is masked again with probability sigma (2503.00307); Bool[B, W].

    With the commits of `Bernoulli(reveal(a_t, a_s, sigma))` the marginals stay those of the masked process; beside a
    heuristic selector it is a corrector.
    """

    schedule: Survival
    eta: float | Tensor = 0.02
    rescaled: bool = False
    """False: sigma = min(eta, sigma_max), "cap".  True: sigma = eta sigma_max, "rescale"."""
    doubtful: bool = False
    """Share sigma out by softmax(-score) over the older columns, "conf"."""

    def __call__(self, canvas: Canvas, step: Step, rng: NoiseSource) -> Tensor:
        columns = step.window.columns()
        older = _older(canvas, columns)
        sigma = self.sigma(step)
        if self.doubtful:
            doubt = (-canvas.score.gather(-1, columns)).masked_fill(~older, -torch.inf)
            # a row without older columns has no softmax; it reopens nothing anyway
            sigma = sigma * doubt.softmax(-1).nan_to_num(0.0)
        return older & (rng.uniform(tuple(columns.shape), columns.device) < sigma)

    def sigma(self, step: Step) -> Tensor:
        """Float[B, 1]: the chance of being masked again, before it is shared out."""
        a_t, a_s = self.schedule.alpha(step.t), self.schedule.alpha(step.s)
        most = ((1 - a_s) / a_t).clamp(max=1.0)
        return self.eta * most if self.rescaled else torch.minimum(torch.as_tensor(self.eta).to(most), most)


@dataclass(frozen=True)
class Doubtful:
    """Older columns that score below `tau`, least sure first, at most `share` of what the step committed less one.

    Bool[B, W].  The bound, WINO's, leaves at least one column more decided after every step.  With
    `Unmask(rescore=True)` the score is what the network now gives to the column's token, otherwise what it gave when
    the token was written.
    """

    tau: float | Tensor = 0.5
    share: float = 1.0

    def __call__(self, canvas: Canvas, step: Step, rng: NoiseSource) -> Tensor:
        columns = step.window.columns()
        score = canvas.score.gather(-1, columns)
        written = (canvas.born.gather(-1, columns) == canvas.step[:, None]).sum(-1, keepdim=True)
        weak = _older(canvas, columns) & (score < self.tau)
        return weak & (rank(-score, weak) < (written * self.share).ceil().long() - 1)


@dataclass(frozen=True)
class Overwrite:
    """Decided columns for which the network now proposes another token with a score above `tau` (LLaDA2.1's editing).

    Not a revision but an `Edit`: the proposal is written at once, and nothing is reopened.
    """

    tau: float | Tensor = 0.9

    def __call__(self, score: Tensor, changed: Tensor) -> Tensor:
        """Bool[B, W] of those in Bool[B, W] `changed`, decided columns whose proposal differs."""
        return changed & (score > self.tau)


def _older(canvas: Canvas, columns: Tensor) -> Tensor:
    """Bool[B, W]: decided, not given, and not written by this step."""
    settled = ~canvas.open.gather(-1, columns) & ~canvas.fixed.gather(-1, columns)
    return settled & (canvas.born.gather(-1, columns) < canvas.step[:, None])
