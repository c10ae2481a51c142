"""Rules reproduce public schedulers step by step, on random logits.

Vectors computed with EntropyBoundScheduler and BlockRefinementScheduler of huggingface/diffusers 0.42.1.  Drawn tokens
and random canvases are replayed; everything that is decided about them is ours.
"""

import re

import pytest
import torch
from given import Uniforms

from mezzotint.decode.canvas import Canvas, Span, Step
from mezzotint.decode.plan import Over, caught_up
from mezzotint.decode.propose import likeliest, probable
from mezzotint.decode.revise import Overwrite
from mezzotint.decode.rule import Unmask
from mezzotint.decode.samplers.renoise import Renoise
from mezzotint.decode.select import Above, EntropyBound, OnTime, by_budget
from mezzotint.decode.shapers import Temperature, TopK, TopP
from mezzotint.processes.absorbing import Absorbing
from mezzotint.rng import Rng
from mezzotint.schedules import Linear

OFF = 2.0  # no probability is above it


def canvas_of(tokens, open, fixed):
    rows, width = tokens.shape
    zero = torch.zeros(rows, dtype=torch.int32)
    return Canvas(tokens, open, fixed, torch.zeros(rows, width), torch.full((rows, width), -1), zero, zero.long())


def step_of(golden, k, budget, size):
    rows = len(budget)
    t, s = (torch.full((rows, 1), 1 - i / golden.meta["num_inference_steps"]) for i in (k, k + 1))
    return Step(Span(torch.zeros(rows, dtype=torch.long), size), budget, k, t, s)


class Recorded:
    """A proposal whose tokens are recorded and whose scores are ours."""

    def __init__(self, tokens):
        self.tokens = tokens

    def __call__(self, logits, rng):
        self.score = probable(logits, self.tokens)
        return self.tokens, self.score


def steps_of(golden, prefix):
    found = {
        int(re.fullmatch(rf"{re.escape(prefix)}\.(\d+)\.sample", name)[1])
        for name in golden.names(rf"{re.escape(prefix)}\.\d+\.sample")
    }
    assert found
    return sorted(found)


def shapers_of(case):
    temperature = (Temperature(case["temperature"]),) if case.get("temperature") else ()
    top_k = (TopK(case["top_k"]),) if case.get("top_k") else ()
    return (*temperature, *top_k, *((TopP(case["top_p"]),) if case.get("top_p") else ()))


@pytest.mark.golden("diffusers_block_refinement")
def test_every_step_of_block_refinement(golden):
    meta, checked = golden.meta, set()
    size, total = meta["block_length"], meta["num_inference_steps"]
    for name, case in meta["cases"].items():
        if name == "add_noise":
            continue
        mask_id = case.get("mask_token_id", meta["mask_id"])
        committed = torch.zeros(golden["in.prompt"].shape[0], size, dtype=torch.bool)
        for k in steps_of(golden, f"block.{name}"):
            at = f"block.{name}.{k}."
            raw, sample = golden["in.logits"][k], golden[at + "sample"]
            given = (
                golden[case["prompt_mask"]].expand_as(sample)
                if "prompt_mask" in case
                else torch.zeros_like(sample).bool()
            )
            open = ~committed if mask_id is None else (sample == mask_id) & ~given
            tokens = likeliest(raw, Rng(0))[0] if "temperature" not in case else golden[at + "sampled_tokens"]
            propose = Recorded(tokens)
            select = OnTime(Above(case["threshold"], always=False), by_budget)
            whole = torch.full((len(sample),), size)
            budget = Over(size)(whole, whole, min(k, total - 1), total)
            if mask_id is None:
                budget = caught_up(whole, open.sum(-1), k, total)
            noise = golden[at + "prev_sample"]
            prior = None if mask_id is not None else lambda shape, device, rng, noise=noise: noise
            edit = Overwrite(case["editing_threshold"]) if "editing_threshold" in case else None
            rule = Unmask(propose, select, shapers=shapers_of(case), prior=prior, edit=edit)
            before = canvas_of(sample, open, given)
            after = rule(raw, before, step_of(golden, k, budget, size), Rng(0))
            commits = before.open & ~after.open
            outputs = {
                "prev_sample": after.tokens,
                "sampled_tokens": tokens,
                "sampled_probs": propose.score,
                "transfer_index": commits,
                "editing_transfer_index": (after.born == before.step[:, None]) & ~commits,
            }
            committed = ~after.open
            if mask_id is None:
                outputs["committed"] = committed
            for field, value in outputs.items():
                golden.check(at + field, value, rtol=1e-5, atol=1e-5)
                checked.add(at + field)
        if f"block.{name}.final" in golden:
            golden.check(f"block.{name}.final", after.tokens)
            checked.add(f"block.{name}.final")
    checked |= schedules(golden) | noising(golden)
    inputs = {"block.prompt_mask", *golden.names(r"in\..*"), *golden.names(r"block\.\w+\.\d+\.sample")}
    assert checked == set(golden.tensors) - inputs


def schedules(golden):
    checked = {"block.transfer_schedule"}
    size, total = golden.meta["block_length"], golden.meta["num_inference_steps"]
    cases = {"block.transfer_schedule": (size, total, total)}
    for name in golden.names(r"block\.schedule_\d+_\d+"):
        length, steps = map(int, name.split("_")[1:])
        cases[name] = (length, steps, len(golden[name]))
    for name, (length, steps, rows) in cases.items():
        whole = torch.tensor([length])
        golden.check(name, torch.cat([Over(length)(whole, whole, k, steps) * (k < steps) for k in range(rows)]))
        checked.add(name)
    return checked


def noising(golden):
    """One time per block, and the two complementary views: what u hides at t, 1 - u shows at 1 - t."""
    clean = golden["in.clean"]
    said = golden.meta["tensors"]["block.add_noise.noisy"]["meaning"]
    prompt, block = (int(re.search(rf"{word} (\d+)", said)[1]) for word in ("prompt_length", "block_length"))
    draws = torch.Generator().manual_seed(golden.meta["seed"] + 5)
    t, u = torch.zeros(clean.shape), torch.ones(clean.shape)
    for start in range(prompt, clean.shape[1], block):
        columns = slice(start, min(start + block, clean.shape[1]))
        t[:, columns] = torch.rand(len(clean), 1, generator=draws)
        u[:, columns] = torch.rand(t[:, columns].shape, generator=draws)
    process = Absorbing(golden.meta["mask_id"] + 1, golden.meta["mask_id"], Linear(eps=0))
    given = torch.arange(clean.shape[1]) < prompt
    checked = set()
    for suffix, times, noise in (("", t, u), ("_rev", 1 - t, 1 - u)):
        noisy = process.hold(process.corrupt(clean, times, Uniforms(noise)), clean, given.expand_as(clean))
        golden.check(f"block.add_noise.noisy{suffix}", noisy)
        golden.check(f"block.add_noise.masked{suffix}", noisy == golden.meta["mask_id"])
        checked |= {f"block.add_noise.noisy{suffix}", f"block.add_noise.masked{suffix}"}
    return checked


@pytest.mark.golden("diffusers_entropy_bound")
def test_every_step_of_the_entropy_bound(golden):
    meta, checked = golden.meta, set()
    shared = meta["cases"]["all"]
    for name, case in meta["cases"].items():
        if "entropy_bound" not in case:
            continue
        for k in steps_of(golden, f"entropy_bound.{name}"):
            at = f"entropy_bound.{name}.{k}."
            sample, propose = golden[at + "sample"], Recorded(golden[at + "sampled_tokens"])
            taken = []

            def select(score, open, budget, taken=taken, case=case):
                taken.append(EntropyBound(case["entropy_bound"])(score, open, budget))
                return taken[0]

            noise = golden[at + "prev_sample"]
            prior = lambda shape, device, rng, noise=noise: noise  # noqa: E731
            rule = Renoise(prior, select, propose, shared["t_max"], shared["t_min"])
            everything = torch.ones_like(sample).bool()
            budget = torch.ones(len(sample))
            after = rule(
                golden["in.logits"][k],
                canvas_of(sample, everything, ~everything),
                step_of(golden, k, budget, sample.shape[1]),
                Rng(0),
            )
            outputs = {
                "accepted_index": taken[0],
                "prev_sample": after.tokens,
                "sampled_probs": propose.score,
                "sampled_tokens": propose.tokens,
            }
            for field, value in outputs.items():
                golden.check(at + field, value, rtol=1e-5, atol=1e-5)
                checked.add(at + field)
    assert checked == set(golden.tensors) - {*golden.names(r"in\..*"), *golden.names(r".*\.sample")}
