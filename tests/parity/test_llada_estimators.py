"""LLaDA's likelihood estimates and training losses are those of its published code, on a recorded toy network."""

import re

import pytest
import torch
from given import Uniforms, ticked

from mezzotint.batch import Batch
from mezzotint.families.llada import llada
from mezzotint.objectives.likelihood import Likelihood
from mezzotint.processes.absorbing import Absorbing
from mezzotint.schedules import Linear


class Toy(torch.nn.Module):
    """logits = table[token] + mean of table2[token] over the sequence + posw[column]; keeps what it was asked."""

    def __init__(self, golden):
        super().__init__()
        self.own, self.shared, self.place = golden["table"], golden["table2"], golden["posw"]
        self.asked = []

    def forward(self, inputs, t):
        self.asked.append((inputs.x, t))
        return self.own[inputs.x] + self.shared[inputs.x].mean(1, keepdim=True) + self.place[inputs.positions]


def absorbing(golden):
    return Absorbing(len(golden["table"]), golden.config["mask_id"], Linear(eps=0))


def likelihoods(golden):
    tokens = torch.cat([golden["prompt"], golden["answer"]])[None]
    target = torch.arange(tokens.shape[1])[None] >= len(golden["prompt"])
    batch, masks = Batch(tokens, target), golden["likelihood.masked"]
    names = golden.names(r"likelihood\.cfg.*")
    assert names
    outputs = {}
    for name in names:
        network, scale = Toy(golden), float(re.fullmatch(r"likelihood\.cfg(.*)", name)[1])
        estimate = Likelihood(absorbing(golden), guidance=scale, rows=masks.shape[1])
        outputs[name] = estimate.each(network, batch, masks.flatten(0, 1)[None]).mean()
        read, shares = torch.stack([x for x, _ in network.asked]), torch.stack([t[:, 0] for _, t in network.asked])
        passes = 2 if scale else 1
        assert len(read) == passes * len(masks)
        torch.testing.assert_close(shares[::passes], golden["likelihood.p_mask"])
        outputs["likelihood.row_count"] = (read[::passes] == golden.config["mask_id"]).sum(-1)
    return outputs


def losses(golden):
    tokens, outputs = golden["train.input_ids"], {}
    whole = torch.ones_like(tokens, dtype=torch.bool)
    answers = torch.arange(tokens.shape[1]) >= golden["sft.prompt_lengths"][:, None]
    for name, target in (("train", whole), ("sft", answers)):
        network = Toy(golden)
        told = lambda batch, rng: golden["train.t"][:, None]  # noqa: E731
        family = llada(absorbing(golden), golden.config["eps"], told, answers=name == "sft")
        loss = family.objective(network, Batch(tokens, target), Uniforms(golden["train.u"]))
        ((x_t, t),) = network.asked
        outputs[f"{name}.loss"] = loss.total
        outputs[f"{name}.masked"] = x_t == golden.config["mask_id"]
        assert torch.equal(t, t[:, :1].expand_as(t))
        outputs["train.p_mask"] = t[:, 0]
    return outputs


@pytest.mark.golden("llada_estimators")
def test_every_recorded_estimate_and_loss(golden):
    assert ticked(golden, likelihoods(golden) | losses(golden)) == sorted(golden.outputs())
