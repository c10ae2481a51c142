"""How many tokens of held-out text a model finds again where they were taken out; the same question for every network.

A network fills holes by its own reading: all at once where every column sees every other, block by block where blocks
see the blocks before them, column by column where it is causal, what was written being read for what comes next
(`infilled`); causal networks that read masks behind everything that is decided fill them at once too.  Families that
are compared by their own samplers write a hole with them (`rewritten`).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mezzotint.batch import Batch
from mezzotint.decode.caches.policies import FinishedBlocks, Policy, Sorted, nothing
from mezzotint.decode.plan import Blocks, following, multiples
from mezzotint.decode.propose import likeliest
from mezzotint.decode.rule import Unmask
from mezzotint.decode.run import Decoding, MaskedModel, Run
from mezzotint.decode.select import most_confident
from mezzotint.decode.shapers import Ban
from mezzotint.denoisers.published.attention_patterns import CausalPattern
from mezzotint.errors import ConfigError
from mezzotint.models.trained import TrainedModel
from mezzotint.rng import Rng

_HOLES = 0x401E5


@dataclass(frozen=True)
class InfillingAccuracy:
    """Share of missing tokens that were found, and its standard error over windows."""

    share: float
    error: float
    tokens: int
    """How many were missing."""


def scattered(windows: int, columns: int, share: float, seed: int = 0) -> Tensor:
    """Bool[windows, columns]: each column but the first is missing with chance `share`; one of a window at least."""
    noise = Rng(seed).fork(_HOLES).uniform((windows, columns))
    noise[:, 0] = 2.0
    return (noise < share) | (noise == noise.amin(1, keepdim=True))


def middle(windows: int, columns: int, size: int) -> Tensor:
    """Bool[windows, columns]: `size` columns side by side in the middle are missing.

    Raises:
        ConfigError: a hole that leaves nothing around it.
    """
    if not 0 < size < columns - 1:
        raise ConfigError(f"cannot leave a hole of {size} in windows of {columns} tokens: take 1 to {columns - 2}")
    start = (columns - size + 1) // 2
    at = torch.arange(columns)
    return ((at >= start) & (at < start + size)).expand(windows, columns)


def filled(model: MaskedModel, windows: Tensor, holes: Tensor, steps: int = 1) -> Tensor:
    """Long[n, L]: windows with their holes filled by first choices.

    Args:
        model: the network, its mask and its block; `block` 1 is a causal network.
        windows: Long[n, L].
        holes: Bool[n, L]; row by row at least one.
        steps: passes per block, or for the whole window where there are no blocks; surest columns first.
    """
    rows = [
        [None if hole else token for token, hole in zip(*row, strict=True)]
        for row in zip(windows.tolist(), holes.tolist(), strict=True)
    ]
    size = model.block or windows.shape[1]
    decoding = Decoding(
        rule=Unmask(likeliest, most_confident, shapers=(Ban(model.never),)),
        plan=Blocks(size, min(steps, size), place=following if model.block is None else multiples),
        policy=_reading(model),
        halt=False,
        focus=True,
    )
    run = Run(model, rows, 0, decoding)
    for _ in run:
        pass
    return run.result().canvas.tokens[:, : windows.shape[1]].cpu()


def _reading(model: MaskedModel) -> Policy:
    if model.block is not None:
        return FinishedBlocks(model.block)
    return Sorted(keep=False) if isinstance(model.pattern, CausalPattern) else nothing


def infilled(model: MaskedModel, windows: Tensor, holes: Tensor, steps: int = 1, rows: int = 32) -> InfillingAccuracy:
    """The share of missing tokens that come back as they were, `rows` windows at a time; as in `filled`.

    Args:
        windows: Long[n, L], held-out text.
        holes: Bool[n, L], what is taken out.
    """
    right: list[Tensor] = []
    for start in range(0, len(windows), rows):
        some, gaps = windows[start : start + rows], holes[start : start + rows]
        right.append((filled(model, some, gaps, steps) == some) & gaps)
    return found(torch.cat(right), holes)


def rewritten(model: TrainedModel, batches: Sequence[Batch], hole: int, steps: int, seed: int = 0) -> InfillingAccuracy:
    """The same of a hole in the middle of each text, written by the family's own sampler in `steps` steps.

    Where a family writes blocks, the hole begins with one.
    """
    right: list[Tensor] = []
    for number, batch in enumerate(batches):
        tokens = batch.tokens
        start = (tokens.shape[1] - hole) // 2
        size = model.family.block or 1
        start -= start % size
        rows: list[list[int | None]] = [
            [None if start <= i < start + hole else token for i, token in enumerate(row)] for row in tokens.tolist()
        ]
        *_, canvas = model.decode(model.canvas(rows, seed + 1000 * number), steps)
        inside = slice(start, start + hole)
        right.append(model.form.written(canvas)[:, inside] == tokens[:, inside])
    hits = torch.cat(right)
    return found(hits, torch.ones_like(hits))


def found(right: Tensor, holes: Tensor) -> InfillingAccuracy:
    """What is `right` of the columns in holes, both Bool[n, L]."""
    hits, missing = right.sum(1).double(), holes.sum(1).double()
    share = hits.sum() / missing.sum()
    # of a ratio of sums: windows are drawn, the tokens within one hang together
    spread = (hits - share * missing).square().sum().sqrt() / missing.sum()
    return InfillingAccuracy(
        float(share), float(spread * (len(hits) / max(len(hits) - 1, 1)) ** 0.5), int(missing.sum())
    )


def ways(windows: int, columns: int, shares: Sequence[float], hole: int) -> dict[str, Tensor]:
    """The questions that are asked, by name."""
    asked = {f"{share:.0%} missing": scattered(windows, columns, share) for share in shares}
    return asked | {f"{hole} in the middle": middle(windows, columns, hole)}
