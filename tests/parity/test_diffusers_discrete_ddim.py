"""The uniform process run backwards, and its Gibbs sweeps, against recordings of diffusers' scheduler.

The recording drew with torch's generator: tokens by the exponential race of torch.multinomial, then routes, then random
tokens; columns by Gumbel noise.  `Replay` gives our samplers the same numbers, in the same order, as uniforms.
"""

import re
from dataclasses import replace

import pytest
import torch
from given import raced

from mezzotint.decode.canvas import Span, Step, infill
from mezzotint.decode.samplers.gibbs_corrector import DiscreteDDIM, Gibbs, contested, flat, improbable, leave_one_out
from mezzotint.schedules import Linear

DOUBTS = {"random": None, "lowest_maxprob": flat, "lowest_current_prob": improbable, "lowest_log_margin": contested}
STRAIGHT = Linear(eps=0)


class Replay:
    """The draws of a torch generator: races for [B, W, V], then random tokens or column order for [B, W]."""

    def __init__(self, seed, race, vocab=None):
        self.generator, self.race, self.vocab = torch.Generator().manual_seed(seed), race, vocab

    def fork(self, name):
        return self

    def uniform(self, shape, device=None):
        if len(shape) == 3:
            return torch.empty(shape, dtype=self.race).exponential_(generator=self.generator).double().neg().exp()
        if self.vocab is None:
            return torch.rand(shape, generator=self.generator).clamp(1e-12, 1 - 1e-12).double()
        return (torch.randint(0, self.vocab, shape, generator=self.generator).double() + 0.5) / self.vocab

    def gumbel(self, shape, device=None):
        return -(-self.uniform(shape).log()).log()


def cases(golden):
    """Case -> its recorded steps."""
    found = {}
    for name in golden.names(r"ddim\.\w+\.\d+\.sample"):
        _, case, k, _ = name.split(".")
        found.setdefault(case, []).append(int(k))
    return {case: sorted(steps) for case, steps in found.items()}


def start(golden):
    sample = golden["in.uniform_sample"]
    rows, columns = sample.shape
    canvas = infill([[None] * columns] * rows, lambda shape, device, rng: torch.zeros(shape, dtype=torch.long))
    canvas.tokens = sample
    return canvas


def step_at(golden, k):
    rows, columns = golden["in.uniform_sample"].shape
    steps = golden.meta["num_inference_steps"]
    t, s = (torch.full((rows, 1), 1 - i / steps, dtype=torch.float64) for i in (k, k + 1))
    window = Span(torch.zeros(rows, dtype=torch.long), columns)
    return Step(window, torch.zeros(rows, dtype=torch.long), k, t, s)


def setting(golden, case):
    """The configuration of a case, and the seed of its generator."""
    shared = next(about for name, about in golden.meta["cases"].items() if re.fullmatch(name.replace("*", ".*"), case))
    return shared, golden.meta["seed"] + int(shared["generator_seed"].removeprefix("seed+"))


def reverse(golden, case, steps):
    about, seed = setting(golden, case)
    rule, rng = DiscreteDDIM(STRAIGHT, about["temperature"]), Replay(seed, torch.float32, golden["in.logits"].shape[-1])
    canvas, out = start(golden), {}
    for k in steps:
        raw, step = golden["in.logits"][k], step_at(golden, k)
        mark = rng.generator.get_state()
        guess, score = rule.guess(raw, rng)
        rng.generator.set_state(mark)
        out[f"ddim.{case}.{k}.sample"] = canvas.tokens
        canvas = rule(raw, canvas, step, rng)
        out |= {f"ddim.{case}.{k}.sampled_tokens": guess, f"ddim.{case}.{k}.sampled_probs": score}
        out[f"ddim.{case}.{k}.prev_sample"] = canvas.tokens
    assert not canvas.open.any()
    return out | {f"ddim.{case}.final": canvas.tokens}


def sweep(golden, case, steps):
    about, seed = setting(golden, case)
    doubt = DOUBTS[case.removeprefix("corrector_")]
    rule = Gibbs(STRAIGHT, doubt, about["corrector_k"], about["corrector_selection_tau"])
    rng, canvas, out = Replay(seed, torch.float64), start(golden), {}
    for k in steps:
        raw, step = golden["in.logits"][k], step_at(golden, k)
        mark = rng.generator.get_state()
        chosen = rule.choose(rule.levels(raw, canvas, step), canvas.tokens, canvas.open, rng)
        rng.generator.set_state(mark)
        out[f"ddim.{case}.{k}.sample"] = canvas.tokens
        canvas = rule(raw, canvas, replace(step, t=step.s), rng)
        out[f"ddim.{case}.{k}.sampled_tokens"] = canvas.tokens.gather(-1, chosen)
        out[f"ddim.{case}.{k}.sampled_probs"] = canvas.score.gather(-1, chosen)
        out[f"ddim.{case}.{k}.prev_sample"] = canvas.tokens
    return out


@pytest.mark.golden("diffusers_discrete_ddim")
def test_every_recorded_step_is_reproduced(golden, monkeypatch):
    monkeypatch.setattr("mezzotint.decode.samplers.gibbs_corrector.draw", raced)
    found = {}
    for case, steps in cases(golden).items():
        found |= (sweep if case.startswith("corrector") else reverse)(golden, case, steps)
    for name in golden.names(r"ddim\.loo_logits\.\d+"):
        levels = re.search(r"alpha ([\d., ]+)", golden.meta["tensors"][name]["meaning"])[1].split(",")
        k = int(name.rpartition(".")[2])
        alpha = torch.full((len(golden["in.uniform_sample"]), 1), float(levels[k]), dtype=torch.float64)
        found[name] = leave_one_out(golden["in.logits"][0], golden["in.uniform_sample"], alpha)
    assert set(golden.names(r"ddim\..*")) == set(found)
    for name, value in found.items():
        golden.check(name, value, rtol=0, atol=golden.meta["tolerance"]["float"])
