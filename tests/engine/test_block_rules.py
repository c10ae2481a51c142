"""The rules of a block in numpy decide what those of decode/ decide in torch, column for column."""

import numpy as np
import pytest
import torch

from mezzotint.decode.canvas import Canvas, Span, Step
from mezzotint.decode.propose import entropy, likeliest
from mezzotint.decode.rule import Unmask
from mezzotint.decode.select import Above, EntropyBound, Factor, Top
from mezzotint.engine.hybrid import block_rules
from mezzotint.engine.hybrid.block_rules import proposal

IDS = 97
PAIRS = {
    "threshold": (lambda x: Unmask(likeliest, Above(x)), block_rules.Threshold, (0.0, 0.05, 0.2, 0.6, 1.0)),
    "factor": (lambda x: Unmask(likeliest, Factor(x)), block_rules.Factor, (0.0, 0.5, 1.0, 4.0)),
    "entropy": (lambda x: Unmask(entropy, EntropyBound(x)), block_rules.EntropyBound, (0.0, 0.1, 2.0, 20.0)),
    "topk": (lambda x: Unmask(likeliest, Top(int(x))), lambda x: block_rules.TopK(int(x)), (1, 2, 9)),
}


def logits(columns, seed, sharpness):
    """Columns from almost flat to almost certain, some of them equal to one another."""
    noise = np.random.default_rng(seed)
    raw = noise.normal(size=(columns, IDS)).astype(np.float32) * noise.uniform(0, sharpness, (columns, 1))
    raw[columns // 2] = raw[0]
    return raw.astype(np.float32)


def in_torch(rule, raw, decided):
    """Decided tokens, -1 where open, after a step of the rule in torch on a row of `decided` columns."""
    open_ = torch.tensor([[token < 0 for token in decided]])
    width = len(decided)
    canvas = Canvas(
        tokens=torch.tensor([[IDS if token < 0 else token for token in decided]]),
        open=open_,
        fixed=torch.zeros(1, width, dtype=torch.bool),
        score=torch.zeros(1, width),
        born=torch.full((1, width), -1),
        step=torch.tensor([0]),
        seed=torch.tensor([0]),
    )
    time = torch.ones(1, 1)
    step = Step(Span(torch.tensor([0]), len(raw)), torch.tensor([1]), 0, time, time)
    after = rule(torch.from_numpy(raw)[None], canvas, step, canvas.rng)
    return [-1 if o else t for o, t in zip(after.open[0].tolist(), after.tokens[0].tolist(), strict=True)]


def in_numpy(rule, raw, decided):
    proposed, after = proposal(raw), [*decided]
    for i in np.flatnonzero(rule(proposed, np.array(decided[: len(raw)]) < 0)):
        after[i] = int(proposed.tokens[i])
    return after


@pytest.mark.parametrize("name", PAIRS)
def test_a_block_is_decided_in_the_same_steps(name):
    make_torch, make_numpy, numbers = PAIRS[name]
    decisions = 0
    for seed in range(20):
        for number in numbers:
            width = 1 + seed % 17
            # a draft that ends in doubt has fewer rows of logits than the block has columns
            rows = max(1, width - seed % 3)
            decided = [-1] * width
            for step in range(width):
                raw = logits(rows, 1000 * seed + step, 1 + seed % 9)
                after = in_numpy(make_numpy(number), raw, decided)
                assert after == in_torch(make_torch(number), raw, decided)
                decisions += after != decided
                if (decided := after).count(-1) == width - rows:
                    break
            assert decided.count(-1) == width - rows
    assert decisions > 20 * len(numbers)


def test_probability_and_entropy_are_those_of_the_softmax():
    raw = logits(12, 5, 6.0)
    raw[3, 10:] = -np.inf
    p = torch.from_numpy(raw).double().softmax(-1)
    proposed = proposal(raw)
    np.testing.assert_allclose(proposed.probability, p.max(-1).values.numpy(), rtol=1e-5)
    np.testing.assert_allclose(proposed.entropy, torch.special.entr(p).sum(-1).numpy(), rtol=1e-4, atol=1e-5)
    assert proposed.tokens.tolist() == p.argmax(-1).tolist()
