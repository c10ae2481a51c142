"""DiffusionBERT's published code: frequencies, per-token survival, posteriors with the average step, hybrid loss."""

import re

import pytest
import torch

from mezzotint.objectives.diffusion_bert import DiffusionBERTLoss, before, nats
from mezzotint.processes.spindle import Frequency, Spindle

pytestmark = pytest.mark.golden("diffusionbert")
PAD = 0
"""The recording's pad id; its weight is 0."""
PARTS = ("posterior", "transition", "p", "kl_per_token", "loss")


def process(golden):
    config = golden.config
    ease = Frequency(golden["token_counts"], PAD)
    return Spindle(config["vocab_size"], config["mask_index"], ease, config["word_freq_lambda"])


def cases(golden):
    """(name, stride, first step) of every recorded step."""
    found = [re.fullmatch(r"s(\d+)\.t(\d+)\.x_next", name) for name in golden.names(r"s\d+\.t\d+\.x_next")]
    assert found
    return [(hit[0].removesuffix("x_next"), int(hit[1]), int(hit[2])) for hit in found if hit]


def levels(golden):
    return [int(name.removeprefix("q.t")) for name in golden.names(r"q\.t\d+")]


def test_frequencies_and_survivals(golden):
    made, total = process(golden), golden.config["T"]
    t = torch.arange(total + 1, dtype=torch.float64) / total
    golden.check("word_freq", made.ease.value)
    golden.check("word_freq_logits", made.ease(golden["x0"]))
    golden.check("state", made.base(t))
    golden.check("lambda_t", made.swell(t))


def test_noise(golden):
    made, x_0 = process(golden), golden["x0"]
    clean = torch.nn.functional.one_hot(x_0, made.vocab).double()
    assert levels(golden)
    for step in levels(golden):
        t = torch.tensor([[step / golden.config["T"]]], dtype=torch.float64)
        golden.check(f"q.t{step}", made.forward_to(clean, made.alpha(t, x_0)))
    golden.check("prior_kl", made.missed(x_0).sum())


def test_posteriors_and_losses(golden):
    made, total, x_0 = process(golden), golden.config["T"], golden["x0"]
    raw, counted = golden["x0_logits"], golden["target_mask"]
    for name, stride, step in cases(golden):
        loss = DiffusionBERTLoss(made, total, golden.config["hybrid_lambda"], stride=stride)
        x_t, t = golden[name + "x_next"], torch.tensor([[(step + stride) / total]], dtype=torch.float64)
        true, ours = loss.sides(raw, x_0, x_t, t)
        golden.check(name + "posterior", true)
        golden.check(name + "transition", made.step_from(x_t, before(t, total, stride), t))
        golden.check(name + "p", ours)
        kl, against = loss.kl(true, ours), nats(ours, x_0)
        golden.check(name + "kl_per_token", kl)
        base, extra = loss.step(raw, x_0, x_t, t), loss.weight * loss.cross_entropy(raw, x_0)
        parts = (loss(raw, x_0, x_t, t), base, extra, kl, against)
        golden.check(name + "loss", torch.stack([(part * counted).sum() for part in parts]))


def test_nothing_in_the_folder_is_left_out(golden):
    own = {"word_freq", "word_freq_logits", "state", "lambda_t", "prior_kl"}
    own |= {f"q.t{step}" for step in levels(golden)}
    own |= {name + part for name, _, _ in cases(golden) for part in PARTS}
    assert set(golden.outputs()) == own
