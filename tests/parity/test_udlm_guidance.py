"""UDLM's posterior, losses and both kinds of guidance against recordings of the published code.

The recorded network answers fixed logits per class, the last row those without a class; the recorded classifier is a
small function of the sum over columns.
"""

import pytest
import torch
import torch.nn.functional as F

from mezzotint.decode.guidance.classifier import ClassifierGuided, FreeGuided, every, expanded
from mezzotint.denoisers.wrappers import ClassifierFree
from mezzotint.families import mdlm, udlm
from mezzotint.layouts import Full
from mezzotint.processes.absorbing import Absorbing
from mezzotint.processes.subs import subs
from mezzotint.processes.uniform import Uniform
from mezzotint.schedules import Linear

LATEST = 1 - 1e-4
LOOKUPS = {"exact": every, "first_order": expanded}


def losses(golden):
    """Posterior and losses, which the code computes with alpha = 1 - t."""
    process = Uniform(golden.config["vocab_size"], Linear(eps=0))
    raw, x_0, x_t, t = golden["logits"][-1], golden["x0"], golden["xt"], golden["t"][:, None]
    s, clean = t - golden.config["dt"], F.one_hot(golden["x0"], process.vocab).double()
    nats = udlm.continuous(process)(raw, x_0, x_t, t)
    counted, steps = golden["attention_mask"], golden.config["T"]
    chain = udlm.finite(process, steps)
    grid = golden["t_discrete"][:, None].clamp(max=LATEST)
    return {
        "posterior.model": udlm.between(process, raw.softmax(-1), x_t, t, s),
        "posterior.true": udlm.between(process, clean, x_t, t, s),
        "loss.continuous": nats,
        "loss.recon": udlm.reconstruction(process, raw, x_0),
        "loss.mean": (nats * counted).sum() / counted.sum(),
        "loss.finite_T": chain(raw, x_0, x_t, grid),
    }


class Classes:
    """The recorded network: logits of the class that the inputs name."""

    training = False

    def __init__(self, logits):
        self.logits = logits

    def __call__(self, inputs, t=None):
        return self.logits[-1 if inputs.label is None else int(inputs.label[0])]


def free_masked(golden, gamma, x_t):
    """The wrapper's logits for the recorded class."""

    def drop(inputs, t):
        return Full().arrange(inputs.x, inputs.x), t

    inputs = Full().arrange(x_t, x_t)
    inputs.label = torch.full((len(x_t),), golden.config["condition"])
    return ClassifierFree(Classes(golden["logits"]), drop, gamma).eval()(inputs)


def judge_of(golden):
    table, matrix, wanted = golden["cls_emb"], golden["cls_W"], golden.config["condition"]

    def judge(x, t):
        each = x.double() @ table if x.is_floating_point() else table[x]
        return (each.sum(1).tanh() @ matrix).log_softmax(-1)[:, wanted]

    return judge


def guided(golden, name):
    """Unguided and guided steps of one kind of noise."""
    vocab, mask = golden.config["vocab_size"], golden.config["mask_index"]
    x_t = golden["xt" if name == "uniform" else "xt_absorb"]
    t = golden["t"][:, None]
    s, logits, judge = t - golden.config["dt"], golden["logits"], judge_of(golden)
    plain, given = logits[-1], logits[golden.config["condition"]]

    if name == "uniform":
        process = Uniform(vocab, Linear())

        def chances(raw, x_t, t, s):
            return udlm.step(process, raw, x_t, t, s)
    else:
        process = Absorbing(vocab, mask, Linear())

        def chances(raw, x_t, t, s):
            return mdlm.step(process, raw, x_t, t, s)

    out = {"unguided": chances(plain, x_t, t, s)}
    out["unguided_argmax"] = out["unguided"].argmax(-1)
    for gamma in golden.config["gammas"]:
        if name == "uniform":
            out[f"cfg.{gamma}"] = FreeGuided(chances, gamma).mixed(torch.cat([given, plain], -1), x_t, t, s)
        else:
            out[f"cfg.{gamma}"] = chances(free_masked(golden, gamma, x_t), x_t, t, s)
        for kind, lookup in LOOKUPS.items():
            out[f"cbg_{kind}.{gamma}"] = ClassifierGuided(chances, judge, gamma, lookup).mixed(plain, x_t, t, s)
    for kind, lookup in LOOKUPS.items():
        out[f"cbg_{kind}.classifier_log_prob"] = lookup(judge, x_t, t, vocab)
    return {f"{name}.{key}": value for key, value in out.items()}


def derive(golden):
    """Every output of the folder by its name."""
    out = losses(golden) | guided(golden, "uniform") | guided(golden, "absorbing_state")
    out["subs.log_probs"] = subs(golden["logits"][-1], golden["xt_absorb"], golden.config["mask_index"])
    return out


@pytest.mark.golden("udlm_guidance")
def test_every_recorded_output_is_reproduced(golden):
    found = derive(golden)
    assert set(golden.outputs()) == set(found)
    for name, value in found.items():
        golden.check(name, value)
