"""Discrete flow matching against recordings of the released library, case by case.

A case is a power of the polynomial scheduler (n1, n2, ...).  The recorded solver draws tokens by argmax and takes its
jump decisions from recorded uniforms; its network answers logits plus a bonus on the current token.
"""

import itertools
import re

import pytest
import torch
import torch.nn.functional as F

from mezzotint.decode.samplers.flow_euler import Euler
from mezzotint.families.flow_matching import cross_entropy, flow_matching, generalised_kl
from mezzotint.processes.mixture_path import MixturePath, Power


class Recorded:
    """Noise that was recorded, whatever is asked."""

    def __init__(self, values):
        self.values = values

    def fork(self, name):
        return self

    def uniform(self, shape, device=None):
        assert tuple(self.values.shape) == tuple(shape)
        return self.values


def cases(golden):
    return sorted({name.split(".")[0] for name in golden.names(r"n[\d.]+\.kappa")})


def path(golden, case, source=None):
    vocab = golden.config["vocab_size"]
    source = torch.full((vocab,), 1 / vocab, dtype=torch.float64) if source is None else source
    return MixturePath(source, Power(power=float(case[1:])))


def derive(golden):
    """Every output of the folder by its name."""
    out = {}
    t, x_0, x_1, logits = (golden[name] for name in ("t", "x_0", "x_1", "logits"))
    ours = 1 - t[:, None]
    for case in cases(golden):
        process = path(golden, case)
        schedule = process.schedule
        out[f"{case}.kappa"] = process.alpha(1 - t)
        out[f"{case}.dkappa"] = -schedule.dalpha(1 - t)
        out[f"{case}.kappa_inverse"] = 1 - schedule.time(t)
        x_t = process.between(x_0, x_1, ours, Recorded(golden["u"]))
        out[f"{case}.x_t"] = x_t
        out[f"{case}.velocity"] = process.velocity(logits.softmax(-1), x_t, ours)
        family = flow_matching(process, generalised_kl(process), Euler(process))
        nats = family.objective.token_loss(logits, x_1, x_t, ours)
        out |= {f"{case}.gkl_none": nats, f"{case}.gkl_mean": nats.mean(), f"{case}.gkl_sum": nats.sum()}
        out[f"{case}.ce"] = cross_entropy(logits, x_1, x_t, ours)
        out |= solve(golden, case)
    return out


def solve(golden, case):
    """The recorded Euler solver with and without a divergence-free term."""
    out = {}
    bonus = float(re.search(r"([\d.]+)\*onehot", golden.meta["tensors"][f"{case}.solver.p1_first"]["meaning"])[1])
    uniforms = golden[f"{case}.solver.jump_u"]
    for name in golden.names(rf"{case}\.solver\.div[\d.]+\.trajectory"):
        start = name.removesuffix(".trajectory")
        times = re.search(r"times ([\d., ]+)", golden.meta["tensors"][name]["meaning"])[1].strip(" ,").split(",")
        grid = [1 - float(time) for time in times]
        solver = Euler(
            path(golden, case, golden[f"{case}.p0"]),
            churn=float(start.split(".div")[1]),
            pick=lambda p, rng: p.argmax(-1),
        )
        states = [golden[name][0]]
        for k, (t, s) in enumerate(itertools.pairwise(grid)):
            last = k == len(grid) - 2
            t, s = torch.full((len(states[0]), 1), t).double(), torch.full((len(states[0]), 1), s).double()
            raw = golden["logits"] + bonus * F.one_hot(states[-1], golden.config["vocab_size"])
            if k == 0:
                out[f"{case}.solver.p1_first"] = raw.softmax(-1)
            noise = Recorded(torch.zeros_like(states[0], dtype=torch.float64) if last else uniforms[k])
            if not last:
                _, rates = solver.plan(raw, states[-1], t, noise)
                leaving = rates[solver.jumping(rates, t, s, noise)]
                if len(leaving):
                    out[f"{start}.step{k}.destinations"] = leaving
            states.append(solver(raw, states[-1], t, s, noise))
        out[name] = torch.stack(states)
    return out


@pytest.mark.golden("discrete_flow_matching")
def test_every_recorded_output_is_reproduced(golden):
    found = derive(golden)
    assert set(golden.outputs()) == set(found)
    assert len(cases(golden)) > 1
    for name, value in found.items():
        golden.check(name, value)
