"""Drafts by masks, the last word by a causal pass: the text is the causal network's own, token for token.

`Judged` drafts with one network and lets another one, causal and of the same vocabulary, decide (APD, 2506.00413, with
all weight on the second).  `Introspective` is one causal network in both parts (I-DLM, 2604.11035): a pass reads the
drafts and, behind every number of drafts that may stand, a set of masks, whose answers are the next drafts; sets that
do not see one another are TiDAR's (2511.08923).

A drawn token depends on the seed and its place alone, so the text does not depend on the drafts at any temperature.
Texts differ in how many drafts stand, so they are written one after the other.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from pydantic import Field
from torch import Tensor

from mezzotint.config import config
from mezzotint.decode.cache import Kept
from mezzotint.decode.canvas import Canvas
from mezzotint.decode.generate import Generation, Model, lay_out
from mezzotint.decode.reader import Network, Sees
from mezzotint.decode.shapers import tempered
from mezzotint.errors import CanvasError, ConfigError
from mezzotint.layouts import Attend, Inputs, Mask
from mezzotint.rng import Rng

Device = torch.device | str
Judge = Callable[[Sequence[int]], tuple[list[int], list[int]]]
"""A text -> its next tokens, at least one, and how many columns each pass for them read."""


@dataclass(frozen=True)
class Choose:
    """The tokens of places in a text, by a seed."""

    temperature: float
    top_p: float
    seed: int

    def __call__(self, logits: Tensor, first: int) -> list[int]:
        """Tokens from Float[n, V], logits of the places `first`, `first` + 1, ..."""
        places = torch.arange(first, first + len(logits), device=logits.device)
        noise = Rng(torch.full_like(places, self.seed), places)
        return tempered(self.temperature, self.top_p)(logits[:, None], noise)[0][:, 0].tolist()


@config
class Judged:
    """A model drafts by masks, its verifier decides."""

    ahead: int = Field(default=8, gt=0)
    """Columns that are drafted at a time."""
    temperature: float = Field(default=0.0, ge=0)
    top_p: float = Field(default=1.0, gt=0, le=1)

    def begin(
        self, model: Model, prompts: Sequence[Sequence[int]], length: int, seeds: Sequence[int] | None = None
    ) -> "Trial":
        """Continue every prompt by at most `length` tokens of the verifier's.

        Raises:
            ConfigError: a model without a verifier.
            CanvasError: no prompt or an empty one, or a length that is not positive.
        """
        verifier = model.verifier
        if verifier is None:
            raise ConfigError("there is no causal model to check the drafts: name its folder, --verifier FOLDER")

        def judge(seed: int, end: int) -> Judge:
            return _Two(model, verifier, self.ahead, Choose(self.temperature, self.top_p, seed), end)

        return Trial(model, judge, prompts, length, seeds)


@config
class Introspective:
    """A causal network with a mask checks its own drafts."""

    stride: int = Field(default=4, gt=1)
    """Tokens that a pass can win at most: its own choice and the drafts."""
    temperature: float = Field(default=0.0, ge=0)
    top_p: float = Field(default=1.0, gt=0, le=1)

    def begin(
        self, model: Model, prompts: Sequence[Sequence[int]], length: int, seeds: Sequence[int] | None = None
    ) -> "Trial":
        """Continue every prompt by at most `length` tokens, those that the network writes one by one.

        Raises:
            ConfigError: a network that sees columns behind, or does not predict the next column.
            CanvasError: no prompt or an empty one, or a length that is not positive.
        """
        if not may_judge(model.network, model.sees):
            raise ConfigError("only a causal network that predicts the next column can check its own drafts")

        def judge(seed: int, end: int) -> Judge:
            return _One(model, self.stride - 1, Choose(self.temperature, self.top_p, seed), end)

        return Trial(model, judge, prompts, length, seeds)


def may_judge(network: Network, sees: Sees) -> bool:
    """Whether a network writes one by one: it sees no column behind, and predicts the next one."""
    mask, zero, one = sees(0), torch.tensor(0), torch.tensor(1)
    return network.lookback == 1 and mask is not None and not bool(mask(zero, zero, zero, one))


class Trial(Generation):
    """One generation: iterating gives the canvas after each round."""

    def __init__(
        self,
        model: Model,
        judge: Callable[[int, int], Judge],
        prompts: Sequence[Sequence[int]],
        length: int,
        seeds: Sequence[int] | None,
    ) -> None:
        self.canvas, self.valid = lay_out(replace(model, block=None), prompts, length, seeds)
        if not all(prompts):
            raise CanvasError("a causal network cannot write without a prompt: give at least one token")
        self.model, self.judge, self.prompts, self.length = model, judge, prompts, length
        self.stop, self.reads = model.stop, []

    def __iter__(self) -> Iterator[Canvas]:
        with torch.inference_mode():
            for row, prompt in enumerate(self.prompts):
                yield from self._text(row, list(prompt))

    def _text(self, row: int, text: list[int]) -> Iterator[Canvas]:
        start, judge = len(text), self.judge(int(self.canvas.seed[row]), len(text) + self.length)
        while len(text) < start + self.length and not set(text[start:]) & set(self.model.stop):
            won, reads = judge(text)
            text += won
            self.reads += reads
            self.canvas = self._shown(row, text[start : start + self.length])
            yield self.canvas

    def _shown(self, row: int, answer: list[int]) -> Canvas:
        """The canvas with the first tokens of a row's answer in it."""
        tokens, open, born = self.canvas.tokens.clone(), self.canvas.open.clone(), self.canvas.born.clone()
        first = tokens.shape[1] - self.length
        fresh = slice(first + self.length - int(open[row].sum()), first + len(answer))
        tokens[row, first : first + len(answer)] = torch.tensor(answer, device=tokens.device)
        open[row, first : first + len(answer)] = False
        born[row, fresh] = self.canvas.step[row]
        step = self.canvas.step.clone()
        step[row] += 1
        return replace(self.canvas, tokens=tokens, open=open, born=born, step=step)


@dataclass
class _Two:
    """Masks behind the text, filled in one pass of the model; one pass of the verifier over what it has not read."""

    model: Model
    verifier: Network
    ahead: int
    choose: Choose
    end: int
    memory: Kept | None = None

    def __call__(self, text: Sequence[int]) -> tuple[list[int], list[int]]:
        model, start, device = self.model, len(text), self.model.device
        ahead = min(self.ahead, self.end - start)
        canvas = torch.tensor([[*text, *[model.mask_id] * ahead]], device=device)
        width = canvas.shape[1]
        columns = torch.arange(width, device=device)[None]
        h = model.network.hidden(Inputs(canvas, columns, Attend(width, width, model.sees(0))), None)
        at = start - model.network.lookback
        raw = model.network.head(h[0, at : at + ahead])
        raw[:, model.never] = -torch.inf
        drafts = self.choose(raw, start)
        if self.memory is None:
            self.memory = self.verifier.memory(1, self.end)
        before = self.memory.length
        unread = [*text[before:], *drafts]
        places = range(before, before + len(unread))
        answers = _read(self.verifier, self.memory, unread, places, causal_behind(before), device)[start - 1 - before :]
        answers[:, model.words :] = -torch.inf
        right = self.choose(answers, start)
        stand = _standing(drafts, right)
        self.memory.truncate(start + stand)
        return right[: stand + 1], [width, len(unread)]


@dataclass
class _One:
    """The unread text, the drafts, and behind every number of drafts that may stand as many masks, in one pass."""

    model: Model
    count: int
    """Drafts for a pass."""
    choose: Choose
    end: int
    memory: Kept | None = None
    drafts: Sequence[int] = ()

    def __call__(self, text: Sequence[int]) -> tuple[list[int], list[int]]:
        count, drafts, start = self.count, self.drafts, len(text)
        if self.memory is None:
            self.memory = self.model.network.memory(1, self.end + count * (count + 2))
        before = self.memory.length
        unread = [*text[before:], *drafts]
        sets = len(drafts) + 1
        tokens = [*unread, *[self.model.mask_id] * (sets * count)]
        # the first mask of a set stands where the next token will, and says what follows it
        places = [*range(before, before + len(unread)), *(start + s + i for s in range(sets) for i in range(count))]
        sees = behind_sets(before, start - before, sets, count)
        raw = _read(self.model.network, self.memory, tokens, places, sees, self.model.device)
        raw[:, self.model.never] = -torch.inf
        right = self.choose(raw[start - 1 - before : len(unread)], start)
        stand = _standing(drafts, right)
        own = raw[len(unread) + stand * count :][:count]
        self.drafts = self.choose(own, start + stand + 1)[: max(0, self.end - start - stand - 1)]
        self.memory.truncate(start + stand)
        return right[: stand + 1], [len(tokens)]


def behind_sets(before: int, unread: int, sets: int, count: int) -> Mask:
    """Who sees whom among text, drafts and sets of masks: set s stands behind s drafts, and no set sees another.

    Args:
        before: columns read earlier, which all see.
        unread: columns of text, followed by one draft less than there are sets.
        sets: sets of masks.
        count: masks of a set.
    """
    line = unread + sets - 1

    def mask(row: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        at = key - before
        which, whose = (query - line).div(count, rounding_mode="floor"), (at - line).div(count, rounding_mode="floor")
        told = torch.where(query < line, at <= query, at < unread + which)
        own = (query >= line) & (at >= line) & (which == whose) & (at <= query)
        return (at < 0) | (at < line) & told | own

    return mask


def causal_behind(before: int) -> Mask:
    """Each column sees itself, those before it, and `before` columns read earlier."""

    def mask(row: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return query + before >= key

    return mask


def _read(
    network: Network, memory: Kept, tokens: Sequence[int], places: Sequence[int], mask: Mask, device: Device
) -> Tensor:
    """Float[n, V]: logits of one text's columns, row by row as the network gives them."""
    x, at = (torch.tensor([list(each)], device=device) for each in (tokens, places))
    attend = Attend(x.shape[1], memory.length + x.shape[1], mask)
    return network.head(network.hidden(Inputs(x, at, attend, memory=memory), None))[0]


def _standing(drafts: Sequence[int], right: Sequence[int]) -> int:
    """How many drafts from the first one on are what the network says."""
    return next((i for i, draft in enumerate(drafts) if draft != right[i]), len(drafts))
