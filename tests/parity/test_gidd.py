"""GIDD's process, losses, weights and steps against recordings of its published code."""

import re

import pytest
import torch
import torch.nn.functional as F

from mezzotint.families import gidd
from mezzotint.families.base import log_p
from mezzotint.families.gidd import GIDD
from mezzotint.families.mdlm import mdlm
from mezzotint.objectives.times import EvenTimes
from mezzotint.processes.absorbing import Absorbing
from mezzotint.processes.mixture import Mixture
from mezzotint.schedules import Linear


def cases(golden):
    return sorted({name.split(".alpha")[0] for name in golden.names(r"pu[\d.]+\.alpha")})


def case(golden, name):
    """Every output of one share of random tokens."""
    config, share = golden.config, float(name.removeprefix("pu"))
    process = Mixture(config["vocab_size"], config["mask_index"], share)
    t, x_0, z_t, logits = golden["t"][:, None], golden["x0"], golden["z_t"], golden["logits"]
    clean = F.one_hot(x_0, process.vocab).double()
    out = {
        "alpha": process.alpha(t),
        "beta_pi": process.noise(t)[:, 0],
        "log_B": torch.tensor(process.hybrid.log_b, dtype=torch.float64),
        "q_t": process.marginal(clean, t),
        "p_t": process.marginal(logits.softmax(-1), t),
        "alpha_ratio": process.hybrid.ratio(t),
        "elbo_weights": process.weight(x_0, z_t, t),
        "elbo": gidd.loss(process, process.weight)(logits, x_0, z_t, t),
    }
    counted = golden["attention_mask"]
    # the published code logs means of both terms of the divergence under the training weights
    p0 = log_p(logits, process.mask_id).exp().double()
    (kl, rest), weight = process.parts(p0, x_0, z_t, t), GIDD(uniform=share).weigh(process)(x_0, z_t, t)
    each = ((kl, weight), (rest, weight), (out["elbo"], 1))
    out["metrics"] = torch.stack([(part * w * counted).sum() / (w * counted).sum() for part, w in each])
    for kind in ("dynamic", "clip", "none"):
        weigh = GIDD(uniform=share, weights=kind, most=config["max_loss_weight"]).weigh(process)
        nats = gidd.loss(process, weigh)(logits, x_0, z_t, t)
        out |= {f"{kind}.weights": weigh(x_0, z_t, t), f"{kind}.loss": nats, f"{kind}.tokenmean": nats.mean()}
    for found in golden.names(rf"{re.escape(name)}\.step\.min_p[\d.]*\d"):
        least = float(found.split("min_p")[1])
        p = gidd.step(process, logits, z_t, golden["t_step"][:, None], golden["s_step"][:, None], least)
        out |= {f"step.min_p{least}": p, f"step.min_p{least}.argmax": p.argmax(-1)}
    return {f"{name}.{key}": value for key, value in out.items()}


def derive(golden):
    """Every output of the folder by its name."""
    out = {}
    for name in cases(golden):
        out |= case(golden, name)
    config, eps, t = golden.config, golden.config["t_eps"], golden["t"][:, None]
    masked = Absorbing(config["vocab_size"], config["mask_index"], Linear(eps=eps))
    family = mdlm(masked)
    nats = family.objective.token_loss(golden["logits"], golden["x0"], golden["z_t_masked"], t)
    a, clean = masked.alpha(t)[..., None], F.one_hot(golden["x0"], masked.vocab).double()
    mask = F.one_hot(torch.tensor(masked.mask_id), masked.vocab)
    out |= {"mdlm.loss": nats, "mdlm.q_t": a * clean + (1 - a) * mask}
    out["time.t"] = EvenTimes(eps).at(len(golden["time.t"]), golden["time.u"])
    return out


@pytest.mark.golden("gidd")
def test_every_recorded_output_is_reproduced(golden):
    found = derive(golden)
    assert len(cases(golden)) > 1
    assert set(golden.outputs()) <= set(found)
    for name in golden.outputs():
        golden.check(name, found[name])
