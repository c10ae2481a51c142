"""How texts of a trained model are drawn: several at once, at a temperature, from a nucleus, beyond its window."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mezzotint.decode.canvas import Canvas, Step
from mezzotint.decode.loop import Denoise
from mezzotint.decode.shapers import Ban, Filter, Temperature, TopP
from mezzotint.errors import ConfigError, RequestError
from mezzotint.models.trained import TrainedModel
from mezzotint.plugins import kind_of

_APART = 1_000_003
"""Between the seeds of one window and of the next."""


def shaped(model: TrainedModel, temperature: float = 1.0, top_p: float = 1.0) -> Denoise:
    """The network's prediction p(x_0 | x_t) under a temperature and cut to a nucleus, for `TrainedModel.decode`.

    The family's own step then draws from it: [MASK] is ruled out first, so that it takes no share of the nucleus.

    Args:
        model: read anew from the first step of a canvas on; one `shaped` serves one canvas.
        temperature: divides the logits; 0 keeps the likeliest token of every column.
        top_p: the fewest tokens that together hold this probability, at the temperature.

    Raises:
        ConfigError: numbers out of range, or a family whose network does not answer logits of the clean token.
    """
    if not 0 <= temperature < float("inf") or not 0 < top_p <= 1:
        raise ConfigError(
            f"cannot draw at temperature {temperature} from a nucleus of {top_p}: give a temperature of 0 or more and "
            "a top-p above 0 and up to 1"
        )
    denoise = model.form.reader(model.network)
    if temperature == 1 and top_p == 1:
        return denoise
    if not model.family.logits:
        raise ConfigError(
            f"{kind_of(model.shape.family)} predicts no distribution over tokens that a temperature or top-p "
            "could shape: leave them out"
        )
    # the nucleus is that of the temperature's distribution
    filters: list[Filter] = [Ban(torch.arange(model.vocabulary.vocab) == model.vocabulary.mask_id)]
    filters += [Temperature(temperature)] if temperature != 1 else []
    filters += [TopP(top_p)] if top_p < 1 else []

    def answer(canvas: Canvas, step: Step) -> Tensor:
        raw = denoise(canvas, step)
        for each in filters:
            raw = each.filtered(raw)
        return raw

    return answer


def write(
    model: TrainedModel,
    columns: Sequence[int | None],
    steps: int,
    seeds: Sequence[int],
    *,
    temperature: float = 1.0,
    top_p: float = 1.0,
) -> Iterator[Canvas]:
    """A text per seed from the same columns, all in one canvas: what it holds after each step.

    A text is the one that its seed gives alone, wherever sums of float32 do not depend on the number of rows.

    Raises:
        ConfigError: as `shaped`.
        CanvasError: no seed, or columns with nothing to write.
    """
    canvas = model.form.canvas([list(columns)] * len(seeds), list(seeds))
    yield from model.decode(canvas, steps, denoise=shaped(model, temperature, top_p))


@dataclass(frozen=True)
class LongText:
    """Texts longer than the window, in the making."""

    before: Tensor
    """Long[B, n]: what is final, left of the canvas's first column."""
    canvas: Canvas
    """The window that is being written, after a step."""

    @property
    def tokens(self) -> Tensor:
        """Long[B, n + L]: all of them."""
        return torch.cat([self.before, self.canvas.tokens], 1)


def write_beyond(
    model: TrainedModel,
    columns: Sequence[int | None],
    length: int,
    steps: int,
    seeds: Sequence[int],
    *,
    temperature: float = 1.0,
    top_p: float = 1.0,
) -> Iterator[LongText]:
    """Texts of `length` tokens from a model whose window is shorter: a window, then half a window at a time.

    What is written goes on behind its own last half, which the next window holds as given.  A prompt may be longer than
    the window; only its end is then read.

    Args:
        model: of a family whose texts fill their canvas.
        columns: the beginning; a hole (None) in it is filled by the first window, so it must lie inside that.
        length: tokens in all, the beginning's among them.
        steps: denoising steps of every window.
        seeds: one per text.
        temperature: as in `shaped`.
        top_p: as in `shaped`.

    Raises:
        ConfigError: a family that chooses lengths itself, or as `shaped`.
        RequestError: nothing to write, or a hole that no window reaches.
    """
    window, block, count = model.shape.length, model.family.block or 1, len(columns)
    if model.form.blank is not None:
        raise ConfigError(f"{kind_of(model.shape.family)} chooses the length of its texts itself: ask for no length")
    first = [*columns, *[None] * (min(length, window) - count)]
    if length <= count and None not in columns:
        raise RequestError(f"the prompt has {count} tokens and {length} are asked for in all: ask for more")
    if count > window and None in columns:
        raise RequestError(f"holes are filled in the first {window} tokens only: shorten the text or take them out")
    rows: list[list[int]] = [[token for token in columns if token is not None] for _ in seeds]
    if None in first:
        first += [None] * (-len(first) % block)
        for canvas in write(model, first, steps, seeds, temperature=temperature, top_p=top_p):
            yield LongText(canvas.tokens[:, :0], canvas)
            rows = canvas.tokens.tolist()
    half = max(window // 2 // block, 1) * block
    for number in range(1, length + 2):
        missing = length - len(rows[0])
        if missing <= 0:
            return
        # the window keeps as much of the text as there is room for, in whole blocks
        new = min(half, -(-missing // block) * block)
        kept = min(len(rows[0]), window - new)
        kept -= kept % block if kept >= block else 0
        new += -(kept + new) % block
        before = len(rows[0]) - kept
        places = [[*row[before:], *[None] * new] for row in rows]
        canvas = model.form.canvas(places, [seed + _APART * number for seed in seeds])
        done = torch.tensor([row[:before] for row in rows], dtype=torch.long).reshape(len(rows), before)
        for after in model.decode(canvas, steps, denoise=shaped(model, temperature, top_p)):
            yield LongText(done, after)
            canvas = after
        rows = torch.cat([done, canvas.tokens], 1).tolist()
