"""LLaDA2.2's Levenshtein editing: tokens of a block are substituted, deleted and inserted while it is written.

Two ids of the vocabulary say what happens to a column: one deletes it, the other opens a mask before it.  A block keeps
its width: it is filled up with masks, or cut; what is cut off is written again in the next block.  A block is left when
a pass changes nothing in it.  Where a state comes back, the least sure of its changes is made another way; after too
many passes masks are filled with plain tokens.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
from pydantic import Field
from torch import Tensor

from mezzotint.config import config
from mezzotint.decode.caches.policies import FinishedBlocks
from mezzotint.decode.canvas import GIVEN, Canvas, Span, Step, rebuilt
from mezzotint.decode.generation import Generation
from mezzotint.decode.plan import multiples
from mezzotint.decode.propose import Propose
from mezzotint.decode.reader import Reader
from mezzotint.decode.run import MaskedModel, lay_out
from mezzotint.decode.select import rank
from mezzotint.decode.shapers import Ban, tempered
from mezzotint.decode.stopping import confirmed
from mezzotint.errors import CanvasError, ConfigError


@config
class LevenshteinEditing:
    """When a column is written and when it is edited."""

    tau: float = Field(default=0.5, ge=0)
    """Masks surer than this are written, always at least one, and one more for every mask that edits have opened."""
    edit: float = Field(default=0.0, ge=0)
    """Decided columns are replaced, deleted or pushed on where the network is surer than this."""
    posts: int = Field(default=16, ge=0)
    """Passes over a block that may follow as many as it has columns."""
    temperature: float = Field(default=0.0, ge=0)
    top_p: float = Field(default=1.0, gt=0, le=1)

    def begin(
        self, model: MaskedModel, prompts: Sequence[Sequence[int]], length: int, seeds: Sequence[int] | None = None
    ) -> "LevenshteinRun":
        """Continue every prompt by at most `length` tokens.

        Raises:
            ConfigError: a network without blocks, or whose checkpoint names no ids for editing.
            CanvasError: no prompt, or a length that is not positive.
        """
        if model.block is None:
            raise ConfigError("only networks of blocks insert and delete: this one has none")
        if model.edit_ids is None:
            raise ConfigError(
                "the checkpoint names no tokens that delete and insert: its config.json needs delete_token_id and "
                "split_token_id"
            )
        if any(None in prompt for prompt in prompts):
            raise CanvasError("cannot insert and delete between given columns: let the prompt end before the answer")
        return LevenshteinRun(self, model, prompts, length, seeds)


class LevenshteinRun(Generation):
    """One generation: iterating gives the canvas after each pass."""

    def __init__(
        self,
        how: LevenshteinEditing,
        model: MaskedModel,
        prompts: Sequence[Sequence[int]],
        length: int,
        seeds: Sequence[int] | None,
    ) -> None:
        assert model.block is not None
        assert model.edit_ids is not None
        self.how, self.model, self.length, self.block = how, model, length, model.block
        self.stop = model.stop
        self.delete, self.insert = model.edit_ids
        self.canvas, self.valid = lay_out(model, prompts, length, seeds)
        self.reader = Reader(model.network, FinishedBlocks(model.block), model.sees, self.valid)
        self.propose: Propose = tempered(how.temperature, how.top_p)
        self.reads = self.reader.passes
        self.ban, self.plain = Ban(model.never), Ban(model.never | model.among(*model.edit_ids))

    def steps(self) -> Iterator[Canvas]:
        for window in multiples(self.canvas, self.block):
            live = self.canvas.open.gather(-1, window.columns()).any(-1)
            live = live & ~confirmed(self.canvas, self.model.stop)
            self.final = int(window.start.amin())
            if bool(live.any()):
                yield from self._window(window, live)

    def _window(self, window: Span, live: Tensor) -> Iterator[Canvas]:
        columns = window.columns()
        introduced = torch.zeros_like(columns, dtype=torch.bool)
        states = wrote = columns.new_zeros(len(columns), 0, self.block)
        for k in range(self.block + self.how.posts + 1):
            t = torch.ones(len(live), 1, device=live.device)
            step = Step(window, torch.ones_like(window.start), k, t, t, live)
            raw = self.reader(self.canvas, step)
            here = self.canvas.tokens.gather(-1, columns)
            if k == self.block + self.how.posts:
                tokens, score = self.propose(self.plain.filtered(raw), self.canvas.rng)
                change = self.canvas.open.gather(-1, columns) & live[:, None]
            else:
                tokens, score = self.propose(self.ban.filtered(raw), self.canvas.rng)
                change = self._chosen(columns, (tokens, score), introduced) & live[:, None]
                tokens = self._otherwise(raw, (tokens, score), change, (states, wrote, here))
            live = live & change.any(-1)
            if not bool(live.any()):
                return
            states = torch.cat([states, here[:, None]], 1)
            wrote = torch.cat([wrote, torch.where(change, tokens, GIVEN)[:, None]], 1)
            introduced = self._rewrite(columns, (tokens, score), change, introduced)
            self.canvas = replace(self.canvas, step=self.canvas.step + live.to(self.canvas.step.dtype))
            yield self.canvas

    def _chosen(self, columns: Tensor, proposal: tuple[Tensor, Tensor], introduced: Tensor) -> Tensor:
        """Bool[B, W]: masks to write and decided columns to edit."""
        tokens, score = proposal
        open, fixed, held = (x.gather(-1, columns) for x in (self.canvas.open, self.canvas.fixed, self.canvas.tokens))
        needed = 1 + (open & introduced).sum(-1, keepdim=True)
        write = open & ((score > self.how.tau) | (rank(score, open) < needed))
        return write | (~open & ~fixed & (tokens != held) & (score > self.how.edit))

    def _otherwise(
        self,
        raw: Tensor,
        proposal: tuple[Tensor, Tensor],
        change: Tensor,
        past: tuple[Tensor, Tensor, Tensor],
    ) -> Tensor:
        """Long[B, W]: the tokens, another one for the least sure change of a row whose state was there before."""
        (tokens, score), (states, wrote, here) = proposal, past
        again = (states == here[:, None]).all(-1)
        worst = score.masked_fill(~change, torch.inf).argmin(-1, keepdim=True)
        tried = wrote.gather(-1, worst[:, None].expand(-1, wrote.shape[1], -1))[..., 0]
        tried = torch.where(again & (tried >= 0), tried, self.model.mask_id)
        at = self.ban.filtered(raw.gather(1, worst[..., None].expand(-1, -1, raw.shape[-1])))[:, 0]
        at = at.scatter(-1, tried, -torch.inf)
        other = torch.where(again.any(-1, keepdim=True) & change.any(-1, keepdim=True), at.argmax(-1)[:, None], -1)
        return tokens.scatter(-1, worst, torch.where(other < 0, tokens.gather(-1, worst), other))

    def _rewrite(self, columns: Tensor, proposal: tuple[Tensor, Tensor], change: Tensor, introduced: Tensor) -> Tensor:
        """Write, delete and insert; Bool[B, W] of the masks that edits have opened."""
        canvas, (tokens, score) = self.canvas, proposal
        deleted, pushed = change & (tokens == self.delete), change & (tokens == self.insert)
        replaced = change & ~deleted & ~pushed
        source = rebuilt(1 + pushed.long() - deleted.long(), self.block)
        fresh, source = source < 0, source.clamp_min(0)

        def moved(name: str, new: Tensor, mask: float) -> Tensor:
            whole = getattr(canvas, name)
            held = torch.where(replaced, new.to(whole.dtype), whole.gather(-1, columns)).gather(-1, source)
            return whole.scatter(-1, columns, torch.where(fresh, torch.full_like(held, mask), held))

        self.canvas = replace(
            canvas,
            tokens=moved("tokens", tokens, self.model.mask_id),
            open=moved("open", torch.zeros_like(replaced), True),
            fixed=moved("fixed", torch.zeros_like(replaced), False),
            score=moved("score", score, 0),
            born=moved("born", canvas.step[:, None].expand_as(columns), GIVEN),
        )
        return (introduced & ~replaced).gather(-1, source) | fresh
