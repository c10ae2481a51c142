"""Speculative decoding with masks as drafter (APD, I-DLM): the text is the verifying causal network's, token for token.

`Speculative` drafts with one network and lets another one, causal and of the same vocabulary, decide (APD, 2506.00413,
with all weight on the second).  `SelfVerified` is one causal network in both parts (I-DLM, 2604.11035): a pass reads
the drafts and, behind every number of drafts that may stand, a set of masks, whose answers are the next drafts; sets
that do not see one another are TiDAR's (2511.08923).

A drawn token depends on the seed and its place alone, so the text does not depend on the drafts at any temperature.
Texts of a batch share their passes, although more drafts stand in one than in another (`methods/causal_batch.py`).
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import torch
from pydantic import Field
from torch import Tensor

from mezzotint.config import config
from mezzotint.decode.canvas import Canvas
from mezzotint.decode.generation import Generation
from mezzotint.decode.methods.causal_batch import CausalBatch, Texts
from mezzotint.decode.reader import Network, Visibility
from mezzotint.decode.run import MaskedModel, lay_out
from mezzotint.decode.shapers import tempered
from mezzotint.errors import CanvasError, ConfigError
from mezzotint.layouts import Attend, Inputs
from mezzotint.rng import Rng

Verify = Callable[[Texts, Sequence[bool]], tuple[list[list[int]], list[int]]]
"""(texts, which of them go on) -> the next tokens of each, at least one for those; and the columns that passes read."""


@dataclass(frozen=True)
class Choose:
    """The tokens of places in texts, by the seeds of the texts."""

    temperature: float
    top_p: float
    seeds: Tensor
    """Long[B]."""

    def __call__(self, logits: Tensor, first: Tensor) -> list[list[int]]:
        """Tokens from Float[B, n, V], logits of the places Long[B] `first`, `first` + 1, ..."""
        places = first[:, None] + torch.arange(logits.shape[1], device=logits.device)
        noise = Rng(self.seeds[:, None].expand_as(places).flatten(), places.flatten())
        tokens, _ = tempered(self.temperature, self.top_p)(logits.flatten(0, 1)[:, None], noise)
        return tokens.view_as(places).tolist()


@config
class Speculative:
    """A model drafts by masks, its verifier decides."""

    ahead: int = Field(default=8, gt=0)
    """Columns that are drafted at a time."""
    temperature: float = Field(default=0.0, ge=0)
    top_p: float = Field(default=1.0, gt=0, le=1)

    def begin(
        self, model: MaskedModel, prompts: Sequence[Sequence[int]], length: int, seeds: Sequence[int] | None = None
    ) -> "SpeculativeRun":
        """Continue every prompt by at most `length` tokens of the verifier's.

        Raises:
            ConfigError: a model without a verifier.
            CanvasError: no prompt or an empty one, or a length that is not positive.
        """
        verifier = model.verifier
        if verifier is None:
            raise ConfigError("there is no causal model to check the drafts: name its folder, --verifier FOLDER")

        def verify(seeds: Tensor, ends: list[int]) -> Verify:
            reading = CausalBatch(verifier, max(ends), model.device)
            return _Two(model, reading, self.ahead, Choose(self.temperature, self.top_p, seeds), ends)

        return SpeculativeRun(model, verify, prompts, length, seeds)


@config
class SelfVerified:
    """A causal network with a mask checks its own drafts."""

    stride: int = Field(default=4, gt=1)
    """Tokens that a pass can win at most: its own choice and the drafts."""
    temperature: float = Field(default=0.0, ge=0)
    top_p: float = Field(default=1.0, gt=0, le=1)

    def begin(
        self, model: MaskedModel, prompts: Sequence[Sequence[int]], length: int, seeds: Sequence[int] | None = None
    ) -> "SpeculativeRun":
        """Continue every prompt by at most `length` tokens, those that the network writes one by one.

        Raises:
            ConfigError: a network that sees columns behind, or does not predict the next column.
            CanvasError: no prompt or an empty one, or a length that is not positive.
        """
        if not may_verify(model.network, model.sees):
            raise ConfigError("only a causal network that predicts the next column can check its own drafts")

        def verify(seeds: Tensor, ends: list[int]) -> Verify:
            count = self.stride - 1
            room = max(ends) + count * (count + 2)
            reading = CausalBatch(model.network, room, model.device, model.mask_id, count)
            return _One(model, reading, Choose(self.temperature, self.top_p, seeds), ends)

        return SpeculativeRun(model, verify, prompts, length, seeds)


def may_verify(network: Network, sees: Visibility) -> bool:
    """Whether a network writes one by one: it sees no column behind, and predicts the next one."""
    mask, zero, one = sees(0), torch.tensor(0), torch.tensor(1)
    return network.lookback == 1 and mask is not None and not bool(mask(zero, zero, zero, one))


class SpeculativeRun(Generation):
    """One generation: iterating gives the canvas after each round."""

    def __init__(
        self,
        model: MaskedModel,
        verify: Callable[[Tensor, list[int]], Verify],
        prompts: Texts,
        length: int,
        seeds: Sequence[int] | None,
    ) -> None:
        self.canvas, self.valid = lay_out(replace(model, block=None), prompts, length, seeds)
        if not all(prompts):
            raise CanvasError("a causal network cannot write without a prompt: give at least one token")
        self.model, self.prompts, self.length = model, prompts, length
        self.verify = verify(self.canvas.seed, [len(prompt) + length for prompt in prompts])
        self.stop, self.reads = model.stop, []

    def steps(self) -> Iterator[Canvas]:
        texts = [list(prompt) for prompt in self.prompts]
        while any(live := [self._goes_on(*pair) for pair in zip(self.prompts, texts, strict=True)]):
            accepted, reads = self.verify(texts, live)
            self.reads += reads
            for text, tokens, alive in zip(texts, accepted, live, strict=True):
                text += tokens if alive else []
            self.canvas = self._shown(texts, live)
            yield self.canvas

    def _goes_on(self, prompt: Sequence[int], text: list[int]) -> bool:
        answer = text[len(prompt) :]
        return len(answer) < self.length and not set(answer) & set(self.stop)

    def _shown(self, texts: Texts, live: list[bool]) -> Canvas:
        """The canvas with the first tokens of every answer in it."""
        tokens, open, born = self.canvas.tokens.clone(), self.canvas.open.clone(), self.canvas.born.clone()
        first = tokens.shape[1] - self.length
        for row, (prompt, text) in enumerate(zip(self.prompts, texts, strict=True)):
            answer = text[len(prompt) :][: self.length]
            there = slice(first, first + len(answer))
            born[row, there] = torch.where(open[row, there], self.canvas.step[row], born[row, there])
            tokens[row, there] = torch.tensor(answer, dtype=torch.long, device=tokens.device)
            open[row, there] = False
        step = self.canvas.step + torch.tensor(live, device=tokens.device).to(self.canvas.step.dtype)
        return replace(self.canvas, tokens=tokens, open=open, born=born, step=step)


@dataclass
class _Two:
    """Masks behind the texts, filled in one pass of the model; one pass of the verifier over what it has not read."""

    model: MaskedModel
    reading: CausalBatch
    ahead: int
    choose: Choose
    ends: list[int]

    def __call__(self, texts: Texts, live: Sequence[bool]) -> tuple[list[list[int]], list[int]]:
        starts = torch.tensor([len(text) for text in texts], device=self.model.device)
        drafts, width = self._drafts(texts, live, starts)
        answers, drafts, count = self.reading(texts, live, drafts)
        answers[..., self.model.words :] = -torch.inf
        right = self.choose(answers, starts)
        stand = _standing(drafts, right)
        self.reading.keep(texts, live, stand)
        return [row[: n + 1] for row, n in zip(right, stand, strict=True)], [width, count]

    def _drafts(self, texts: Texts, live: Sequence[bool], starts: Tensor) -> tuple[list[list[int]], int]:
        """Drafts for every text that goes on, and how many columns were read for them."""
        model, device = self.model, self.model.device
        many = [
            min(self.ahead, end - len(text)) if alive else 0
            for text, end, alive in zip(texts, self.ends, live, strict=True)
        ]
        width = max(len(text) + n for text, n in zip(texts, many, strict=True))
        rows = [[*text, *[model.mask_id] * (width - len(text))] for text in texts]
        columns = torch.arange(width, device=device).expand(len(rows), -1)
        valid = columns < (starts + torch.tensor(many, device=device))[:, None]
        attend = Attend(width, width, model.sees(0), None if bool(valid.all()) else valid)
        h = model.network.hidden(Inputs(torch.tensor(rows, device=device), columns, attend), None)
        at = starts[:, None] - model.network.lookback + torch.arange(max(many), device=device)
        raw = model.network.head(h.gather(1, at.clamp(max=width - 1)[..., None].expand(-1, -1, h.shape[-1])))
        raw[..., model.never] = -torch.inf
        return [row[:n] for row, n in zip(self.choose(raw, starts), many, strict=True)], width


@dataclass
class _One:
    """The unread texts, the drafts, and behind every number of drafts that may stand a set of masks, in one pass."""

    model: MaskedModel
    reading: CausalBatch
    choose: Choose
    ends: list[int]
    drafts: list[list[int]] = field(default_factory=list)

    def __call__(self, texts: Texts, live: Sequence[bool]) -> tuple[list[list[int]], list[int]]:
        starts = torch.tensor([len(text) for text in texts], device=self.model.device)
        raw, drafts, columns = self.reading(texts, live, self.drafts or [[] for _ in texts])
        raw[..., self.model.never] = -torch.inf
        ahead = 1 + max(map(len, drafts))
        right = self.choose(raw[:, :ahead], starts)
        stand = _standing(drafts, right)
        sets = raw[:, ahead:].unflatten(1, (ahead, self.reading.count))
        stood = torch.tensor(stand, device=starts.device)
        mine = sets[torch.arange(len(stand), device=starts.device), stood]
        self.drafts = [
            row[: max(0, end - len(text) - n - 1)]
            for row, end, text, n in zip(self.choose(mine, starts + stood + 1), self.ends, texts, stand, strict=True)
        ]
        self.reading.keep(texts, live, stand)
        return [row[: n + 1] for row, n in zip(right, stand, strict=True)], [columns]


def _standing(drafts: list[list[int]], right: list[list[int]]) -> list[int]:
    """How many drafts of each text from the first one on are what the network says."""
    return [
        next((i for i, draft in enumerate(mine) if draft != said[i]), len(mine))
        for mine, said in zip(drafts, right, strict=True)
    ]
