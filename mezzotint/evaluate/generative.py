"""How good texts from nothing are: an independent autoregressive judge, always beside their entropy."""

import math
import time
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mezzotint.batch import Batch
from mezzotint.families.base import objective_of
from mezzotint.models.trained import TrainedModel
from mezzotint.rng import Rng


@dataclass(frozen=True)
class Quality:
    """Generative quality of texts written in some number of steps."""

    steps: int
    """Passes of the network per text."""
    judge_bits: float
    """Bits per token under the judge; low is good only where entropy is that of real text."""
    entropy_bits: float
    """Of the tokens of each text by themselves, a mean over texts; repetitive texts have little."""
    tokens_per_second: float
    tokens_per_text: float
    """The canvas's width, but for families that choose a length."""


def quality(model: TrainedModel, judge: TrainedModel, texts: int, steps: int, seed: int = 0) -> Quality:
    """Write `texts` texts in about `steps` steps and judge them; both models share a vocabulary."""
    begun = time.process_time()
    canvases = list(model.decode(model.blank(texts, seed=seed), steps))
    seconds = time.process_time() - begun
    tokens = model.form.written(canvases[-1])
    there = tokens != -1 if model.form.blank is None else tokens != model.form.blank
    count = int(there.sum())
    found = judged(judge, tokens.where(there, 0), there), entropy(tokens, there)
    return Quality(len(canvases), *found, count / max(seconds, 1e-9), count / texts)


@torch.no_grad()
def judged(judge: TrainedModel, tokens: Tensor, there: Tensor | None = None) -> float:
    """Bits per token of Long[n, L] under an autoregressive model; what is not `there` stands behind the texts."""
    there = torch.ones_like(tokens, dtype=torch.bool) if there is None else there
    loss = objective_of(judge.family)(judge.network.eval(), Batch(tokens, there), Rng(0))
    assert loss.per_token is not None
    return float(loss.per_token.double().sum() / there.sum().clamp_min(1)) / math.log(2)


def entropy(tokens: Tensor, there: Tensor | None = None) -> float:
    """Mean over rows of Long[n, L] of the entropy of the row's tokens that are `there`, in bits."""
    there = torch.ones_like(tokens, dtype=torch.bool) if there is None else there
    rows = []
    for row, kept in zip(tokens, there, strict=True):
        counts = np.unique(row[kept].numpy(), return_counts=True)[1]
        p = counts / counts.sum()
        rows.append(float(-(p * np.log2(p)).sum()))
    return float(np.mean(rows))


def counted(train: np.ndarray, test: np.ndarray, vocab: int) -> dict[str, float]:
    """Bits per token of test text by how often tokens, and pairs of them, are in the training text (plus one half)."""
    ones = np.bincount(train, minlength=vocab) + 0.5
    pairs = np.full((vocab, vocab), 0.5)
    np.add.at(pairs, (train[:-1], train[1:]), 1)
    unigram = -np.log2(ones / ones.sum())[test].mean()
    bigram = -np.log2(pairs / pairs.sum(1, keepdims=True))[test[:-1], test[1:]].mean()
    return {"unigram": float(unigram), "bigram": float(bigram)}
