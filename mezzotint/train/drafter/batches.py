"""Batches for a drafter from a folder of answers (answers.py), and how many of its drafts a pass would accept."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mezzotint.denoisers.networks.drafter import Drafter
from mezzotint.errors import ConfigError
from mezzotint.train.drafter.answers import Index
from mezzotint.train.drafter.loss import DraftBatch, rows


@dataclass(frozen=True)
class DraftSettings:
    """How batches are cut."""

    rows: int = 4096
    """Network rows per batch, padding included."""
    anchors: float = 0.2
    """Blocks per token."""
    partial: float = 0.25
    """Share of blocks in which some columns are already decided."""
    held_out: int = 50
    """Of so many conversations, one is kept for evaluation."""


class DraftData:
    """Random access to batches of conversations of similar length."""

    def __init__(self, folder: Path, drafter: Drafter, settings: DraftSettings, top: int = 8) -> None:
        self.shape, self.settings = drafter.shape, settings
        index = Index(folder)
        if len(index.spans) < settings.held_out:
            raise ConfigError(
                f"{folder} holds {len(index.spans)} conversations: at least {settings.held_out} are needed"
            )
        self.arrays = index.arrays(top, len(self.shape.taps), self.shape.width)
        self.place = np.full(int(drafter.embedding.shape[0]), -1, np.int64)
        self.drafted = len(drafter.ids)
        self.place[drafter.ids.cpu().numpy()] = np.arange(self.drafted)
        usable = [span for span in index.spans if span[1] > self.shape.block + 8]
        self.train = [s for i, s in enumerate(usable) if i % settings.held_out]
        self.held_out = [s for i, s in enumerate(usable) if not i % settings.held_out]
        self.batches = self._cut(sorted(self.train, key=lambda s: s[1]))

    def _cut(self, spans: list[tuple[int, int]]) -> list[list[tuple[int, int]]]:
        per_token = 1 + self.settings.anchors * self.shape.block
        out: list[list[tuple[int, int]]] = [[]]
        for span in spans:
            if out[-1] and (len(out[-1]) + 1) * span[1] * per_token > self.settings.rows:
                out.append([])
            out[-1].append(span)
        return out

    def batch(self, step: int, seed: int) -> DraftBatch:
        epoch, at = divmod(step, len(self.batches))
        order = np.random.default_rng((seed, epoch)).permutation(len(self.batches))
        return self.collate(self.batches[order[at]], np.random.default_rng((seed, step)))

    def collate(self, spans: list[tuple[int, int]], rng: np.random.Generator) -> DraftBatch:
        """One batch of these conversations; anchors and decided columns are drawn."""
        block = self.shape.block
        longest = max(length for _, length in spans)
        count = max(1, int(longest * self.settings.anchors))

        def padded(name: str) -> NDArray[Any]:
            source = self.arrays[name]
            out = np.zeros((len(spans), longest, *source.shape[1:]), source.dtype)
            for i, (start, length) in enumerate(spans):
                out[i, :length] = source[start : start + length]
            return out

        logp = padded("top_logp").astype(np.float32)
        for i, (_, length) in enumerate(spans):
            logp[i, length:] = -np.inf
        answer = padded("answer")
        anchors = np.stack([_draw(rng, answer[i], length - block - 2, count) for i, (_, length) in enumerate(spans)])
        share = np.where(
            rng.random((len(spans), count, 1)) < self.settings.partial, rng.random((len(spans), count, 1)), 0
        )
        tokens, top_ids = padded("tokens").astype(np.int64), padded("top_ids")
        met = np.unique(np.concatenate([tokens.ravel(), top_ids[..., 0].ravel()]))
        others = met[self.place[met] < 0]
        place = self.place.copy()
        place[others] = self.drafted + np.arange(len(others))
        return DraftBatch(
            tokens=torch.from_numpy(tokens),
            taps=torch.from_numpy(padded("taps").astype(np.float32)),
            top_ids=torch.from_numpy(place[top_ids]),
            top_p=torch.from_numpy(np.exp(logp)),
            anchors=torch.from_numpy(anchors),
            known=torch.from_numpy(rng.random((len(spans), count, block)) < share),
            others=torch.from_numpy(others),
        )


def _draw(rng: np.random.Generator, answer: NDArray[Any], end: int, count: int) -> NDArray[np.int64]:
    """`count` different positions below `end`, those whose next token is part of an answer first."""
    inside = rng.permutation(np.flatnonzero(answer[1 : end + 1]))
    others = rng.permutation(np.setdiff1d(np.arange(len(answer) - 1), inside))
    return np.concatenate([inside, others])[:count].astype(np.int64)


def frequent(folder: Path, count: int, vocab: int, always: tuple[int, ...]) -> Tensor:
    """The `count` ids met most often in the answers of a folder, in ascending order; Long[count]."""
    index = Index(folder)
    tokens = np.fromfile(folder / "tokens.bin", np.int32)[: index.tokens]
    answer = np.fromfile(folder / "answer.bin", np.uint8)[: index.tokens]
    seen = np.bincount(tokens[answer > 0], minlength=vocab).astype(np.int64) * 4 + (
        np.bincount(tokens, minlength=vocab) > 0
    )
    seen[list(always)] = np.iinfo(np.int64).max
    return torch.from_numpy(np.sort(np.argsort(-seen, kind="stable")[:count]).astype(np.int64))


@torch.no_grad()
def accepted(drafter: Drafter, data: DraftData, limit: int = 24) -> dict[str, float | str]:
    """Acceptance of drafts on held-out conversations, judged by the network's own argmax at every position.

    `chain` is 1 + the mean number of drafted tokens accepted when one chain is drafted and verified greedily, at
    anchors where the text is the network's argmax all along; `right_i` the chance that the first i tokens all are.
    Drafted are the drafter's own ids and those of the text up to the anchor, as in decoding.
    """
    block = drafter.shape.block
    hits = np.zeros(block + 1)
    anchors = 0
    spans = sorted(data.held_out, key=lambda s: s[1])
    for at in range(0, min(limit * 8, len(spans)), 8):
        batch = data.collate(spans[at : at + 8], np.random.default_rng(at))
        batch.known = torch.zeros_like(batch.known)
        context, blocks = rows(drafter, batch)
        n = batch.tokens.shape[1]
        goal = batch.top_ids[..., 0].masked_fill(batch.top_p.sum(-1) <= 0, -2)
        state = context.gather(1, batch.anchors[..., None].expand(-1, -1, context.shape[-1]))
        alive = torch.ones_like(batch.anchors, dtype=torch.bool)
        ids, unmet = torch.cat([drafter.ids, batch.others]), ~_met(batch)
        valid = goal.gather(1, batch.anchors + 1) != -2
        anchors += int(valid.sum())
        for offset in range(block + 1):
            place = (batch.anchors + offset + 1).clamp_max(n - 1)
            wanted = goal.gather(1, place)
            logits = drafter.logits(state, batch.others)
            logits[..., len(drafter.ids) :].masked_fill_(unmet, -torch.inf)
            guess = logits.argmax(-1)
            alive &= (guess == wanted) & valid
            hits[offset] += int(alive.sum())
            if offset < block:
                following = batch.tokens.gather(1, (place + 1).clamp_max(n - 1))
                # past a sampled token that is not the argmax the recorded distributions are of another text
                alive &= ids[guess] == following
                state = drafter.advance(blocks[:, :, offset], following, state)
    share = hits / max(anchors, 1)
    return {"chain": 1 + float(share.sum()), **{f"right_{i + 1}": float(v) for i, v in enumerate(share)}}


def _met(batch: DraftBatch) -> Tensor:
    """Bool[B, A, E]: whether the context of an anchor, and the token after it, has met each of `batch.others`."""
    at = torch.arange(batch.tokens.shape[1], device=batch.tokens.device)[None, :, None]
    here = batch.tokens[..., None] == batch.others
    first = torch.where(here & (at > 0), at, at.shape[1]).amin(1)
    return first[:, None] <= batch.anchors[..., None] + 1
