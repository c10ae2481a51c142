"""Guidance of discrete diffusion towards a class (Schiff et al. 2024, arXiv 2412.10193, sec. 3).

Both kinds change the chances of one step, Float[B, W, V], and draw from them.  `chances` is a family's own step:
(raw, x_t, t, s) -> Float[B, W, V].  Where a column's chances are certain, guidance leaves it.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from mezzotint.decode.canvas import Canvas, Step
from mezzotint.decode.loop import Denoise
from mezzotint.rng import Rng, draw

Chances = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
LogLikelihood = Callable[[Tensor, Tensor], Tensor]
"""(x_t, t Float[B, 1]) -> log p(class | x_t), Float[B]; x_t is Long[B, W], or Float[B, W, V] of one-hot columns."""
Lookup = Callable[[LogLikelihood, Tensor, Tensor, int], Tensor]
"""(classifier, x_t, t, V) -> log p(class | x_t with one column replaced), Float[B, W, V]."""

_AT_ONCE = 4096


def both(conditional: Denoise, plain: Denoise) -> Denoise:
    """Two answers side by side, Float[B, W, 2 V], for `FreeGuided`."""

    def denoise(canvas: Canvas, step: Step) -> Tensor:
        return torch.cat([conditional(canvas, step), plain(canvas, step)], -1)

    return denoise


@dataclass(frozen=True)
class FreeGuided:
    """D-CFG, eq. 9: chances with the class to the power gamma, times those without to the power 1 - gamma.

    It reads the answers of `both`.  For masked families mixing the logits is the same (denoisers/wrappers.py
    `ClassifierFree`), as a masked column's chances are its prediction up to a factor.
    """

    chances: Chances
    gamma: float
    """1 is the class alone, 0 no class; above 1 more of it."""

    def __call__(self, raw: Tensor, x_t: Tensor, t: Tensor, s: Tensor, rng: Rng) -> Tensor:
        """x_s, Long[B, W]."""
        return draw(self.mixed(raw, x_t, t, s), rng)

    def mixed(self, raw: Tensor, x_t: Tensor, t: Tensor, s: Tensor) -> Tensor:
        """Float[B, W, V]; rows sum to one."""
        given, plain = (self.chances(part, x_t, t, s).log() for part in raw.chunk(2, -1))
        # what neither answer allows stays impossible under any gamma
        mixed = torch.where(torch.isneginf(plain), plain, self.gamma * given + (1 - self.gamma) * plain)
        return mixed.softmax(-1)


@dataclass(frozen=True)
class ClassifierGuided:
    """D-CBG, eq. 12: each token's chance times p(class | x_t with that token)^gamma, a classifier of noisy text."""

    chances: Chances
    classifier: LogLikelihood
    """Reads the columns of the step's window."""
    gamma: float
    lookup: Lookup
    """`every` or `expanded`."""
    arrived: bool = False
    """Classify at time s, where texts after the step are; exact in one column.  Published code does so at t."""

    def __call__(self, raw: Tensor, x_t: Tensor, t: Tensor, s: Tensor, rng: Rng) -> Tensor:
        """x_s, Long[B, W]."""
        return draw(self.mixed(raw, x_t, t, s), rng)

    def mixed(self, raw: Tensor, x_t: Tensor, t: Tensor, s: Tensor) -> Tensor:
        """Float[B, W, V]; rows sum to one."""
        own = self.chances(raw, x_t, t, s).log()
        known = self.lookup(self.classifier, x_t, s if self.arrived else t, own.shape[-1])
        return (own + self.gamma * known.to(own.dtype)).softmax(-1)


@torch.no_grad()
def every(classifier: LogLikelihood, x_t: Tensor, t: Tensor, vocab: int) -> Tensor:
    """Exact: the classifier reads all W x V texts that differ in one column from x_t, Long[B, W]; Float[B, W, V]."""
    rows, columns = x_t.shape
    spots = torch.arange(rows * columns * vocab, device=x_t.device)
    found: list[Tensor] = []
    for part in spots.split(_AT_ONCE):
        row, column, token = part // (columns * vocab), part // vocab % columns, part % vocab
        texts = x_t[row].scatter(-1, column[:, None], token[:, None])
        found.append(classifier(texts, t[row]))
    return torch.cat(found).view(rows, columns, vocab)


def expanded(classifier: LogLikelihood, x_t: Tensor, t: Tensor, vocab: int) -> Tensor:
    """First order, eq. 13: one reading of x_t, Long[B, W], and its gradient; Float[B, W, V].

    Exact for classifiers that add up over columns.
    """
    with torch.enable_grad():
        here = F.one_hot(x_t, vocab).to(torch.get_default_dtype()).requires_grad_()
        known = classifier(here, t)
        (slope,) = torch.autograd.grad(known.sum(), here)
    present = slope.gather(-1, x_t[..., None])
    return known.detach()[:, None, None] + (slope - present)
