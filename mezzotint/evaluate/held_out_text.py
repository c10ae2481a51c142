"""How many bits a trained model needs for a text that it has not seen."""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from mezzotint.batch import Batch
from mezzotint.errors import RequestError
from mezzotint.families.base import objective_of
from mezzotint.models.trained import TrainedModel
from mezzotint.objectives.bits import measure

ROWS = 16
"""Windows of one pass."""


@dataclass(frozen=True)
class TextBits:
    """What windows of a text cost; errors are standard errors over windows."""

    nats_per_token: float
    nats_per_token_error: float | None
    """None where there is a single window."""
    bits_per_character: float
    bits_per_character_error: float | None
    perplexity: float
    """exp of the nats per token; of a bound, a bound."""
    exact: bool
    """Whether these are -log p, or an upper bound on it."""
    windows: int
    tokens: int
    """In the windows that were measured."""
    length: int
    """Tokens of a window; every window is read without what stands before it."""
    draws: int
    """Times the noise of a window is drawn."""
    seed: int

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def text_bits(
    model: TrainedModel,
    text: str,
    *,
    windows: int | None = None,
    draws: int = 1,
    seed: int = 0,
    tell: Callable[[int, int], None] = lambda done, total: None,
) -> TextBits:
    """The bound of a model's family on a text, or its exact likelihood where the family has one.

    Args:
        model: measured on windows of its own length that do not overlap; what is left at the end is not measured.
        text: any, in the model's vocabulary.
        windows: at most this many, spread evenly over the text; all if not given.
        draws: times the noise of every window is drawn; more of them leave less error in a bound.
        seed: of the noise.
        tell: hears windows done and windows in all.

    Raises:
        RequestError: a text shorter than a window, or numbers below one.
        VocabularyError: a character that the model has never seen.
    """
    if draws < 1 or (windows is not None and windows < 1) or seed < 0:
        raise RequestError("cannot measure less than one window in less than one draw: give numbers from 1 up")
    ids, length = model.vocabulary.encode(text), model.shape.length
    count = len(ids) // length
    if not count:
        raise RequestError(f"the text has {len(ids)} tokens and a window of this model {length}: give a longer text")
    taken = np.arange(count) if windows is None or windows >= count else np.arange(windows) * count // windows
    pages = torch.from_numpy(ids[: count * length].reshape(count, length)[taken])
    batches = [Batch(rows, torch.ones_like(rows, dtype=torch.bool)) for rows in pages.split(ROWS)]
    total = len(taken)
    objective = objective_of(model.family)
    found = measure(model.network, objective, batches, draws, seed, lambda done: tell(min(done * ROWS, total), total))
    bits, error = found.bits(len(ids) / max(len(text), 1))
    spread = math.isfinite(found.error)
    return TextBits(
        nats_per_token=found.nats,
        nats_per_token_error=found.error if spread else None,
        bits_per_character=bits,
        bits_per_character_error=error if spread else None,
        perplexity=math.exp(min(found.nats, 700.0)),
        exact=model.family.exact,
        windows=total,
        tokens=found.tokens,
        length=length,
        draws=draws,
        seed=seed,
    )
