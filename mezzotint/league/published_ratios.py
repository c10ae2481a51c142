"""What papers found for the families of the league, as ratios to their own autoregressive baseline.

A ratio of bits is the only figure that may stand beside ours: corpora, sizes and budgets differ by orders of magnitude.
Where papers give perplexities, the ratio is that of their logarithms.
"""

import math
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class PublishedPair:
    """One published pair: a family and the autoregressive model of the same table."""

    where: str
    """The data, and the source."""
    value: float
    base: float
    """Of the autoregressive model."""
    unit: Literal["bits per character", "nats per token", "perplexity"] = "bits per character"

    @property
    def ratio(self) -> float:
        """Bits of the family over bits of the baseline."""
        if self.unit == "perplexity":
            return math.log(self.value) / math.log(self.base)
        return self.value / self.base


_TEXT8 = "text8, 2310.16834"
_OWT = "OpenWebText, 2406.07524"
_OWT_BLOCKS = "OpenWebText, 2503.09573"
_OWT_DUO = "OpenWebText, 2506.10892"

PUBLISHED: dict[str, tuple[PublishedPair, ...]] = {
    "mdlm": (
        PublishedPair("text8, as the paper of RDLM lists it", 1.40, 1.23),
        PublishedPair("LM1B, 33 B tokens, 2406.07524", 27.04, 22.32, "perplexity"),
        PublishedPair("LM1B, 327 B tokens, 2406.07524", 23.00, 20.86, "perplexity"),
        PublishedPair(_OWT, 23.21, 17.54, "perplexity"),
    ),
    "bd3lm": (
        PublishedPair(f"{_OWT_BLOCKS}, blocks of 16", 22.27, 17.54, "perplexity"),
        PublishedPair(f"{_OWT_BLOCKS}, blocks of 8", 21.68, 17.54, "perplexity"),
        PublishedPair(f"{_OWT_BLOCKS}, blocks of 4", 20.73, 17.54, "perplexity"),
    ),
    "d3pm-absorbing": (PublishedPair("text8, 2107.03006, 1,000 steps", 1.45, 1.23),),
    "d3pm-uniform": (PublishedPair("text8, 2107.03006, 1,000 steps", 1.61, 1.23),),
    "sedd-absorbing": (PublishedPair(_TEXT8, 1.39, 1.23), PublishedPair(_OWT, 24.10, 17.54, "perplexity")),
    "sedd-uniform": (PublishedPair(_TEXT8, 1.47, 1.23), PublishedPair(_OWT_DUO, 29.7, 17.5, "perplexity")),
    "udlm": (PublishedPair(_OWT_DUO, 27.4, 17.5, "perplexity"),),
    "duo": (PublishedPair(_OWT_DUO, 25.2, 17.5, "perplexity"),),
    "diffusion-lm": (
        PublishedPair("E2E, 2205.14217", 2.28, 1.77, "nats per token"),
        PublishedPair("ROCStories, 2205.14217", 3.88, 3.05, "nats per token"),
    ),
}
"""By the league's names; families that are missing have no pair with a baseline of their own."""


def table() -> str:
    """The pairs as Markdown."""
    rows = ["| family | on | family's figure | AR's figure | ratio of bits |", "|---|---|---|---|---|"]
    for name, found in PUBLISHED.items():
        for pair in found:
            rows.append(f"| {name} | {pair.where} | {pair.value:g} {pair.unit} | {pair.base:g} | {pair.ratio:.2f} |")
    return "\n".join(rows) + "\n"


def ratios(name: str) -> str:
    """The range of a family's published ratios; empty where there is none."""
    values = sorted(pair.ratio for pair in PUBLISHED.get(name, ()))
    if not values:
        return ""
    low, high = f"{values[0]:.2f}", f"{values[-1]:.2f}"
    return low if low == high else f"{low} to {high}"
