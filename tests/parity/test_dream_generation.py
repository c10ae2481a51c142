"""Dream's sampler and Fast-dLLM's for it: every canvas, every token, every pass.

Filters that leave one token make entropies exactly equal; the published loop leaves such ties to its build, and ours
takes them from the record there.
"""

from dataclasses import replace

import pytest
import torch
from generations import Leaning, cases_of, greedy, opened, trace, unpadded
from given import Uniforms

from mezzotint.decode.caches.policies import Dual, Prefix, nothing
from mezzotint.decode.plan import Blocks, Down, Shrinking, caught_up
from mezzotint.decode.propose import entropy, first_largest, likeliest, margin, margin_of, negative_entropy, probable
from mezzotint.decode.rule import Seeded, Unmask, ancestral
from mezzotint.decode.select import Above, AtMost, by_budget
from mezzotint.decode.shapers import TopK, TopP
from mezzotint.schedules import Linear

PROPOSE = {"maskgit_plus": likeliest, "confidence_threshold": likeliest, "topk_margin": margin, "entropy": entropy}
POLICIES = {"prefix": Prefix(seeded=True), "dual": Dual(seeded=True)}


class Recorded:
    """A rule whose ties and uniform numbers are those of the record."""

    def __init__(self, rule, golden, name):
        self.rule, self.golden, self.name = rule, golden, name

    def __call__(self, raw, canvas, step, rng):
        open = canvas.open.gather(-1, step.window.columns())
        if f"{self.name}.uniforms" in self.golden:
            drawn = torch.ones(open.shape, dtype=torch.float64)
            drawn[open] = self.golden[f"{self.name}.uniforms"][step.k][: int(open.sum())]
            return self.rule(raw, canvas, step, Uniforms(drawn))
        history = self.golden[f"{self.name}.history"][step.k][:, -open.shape[1] :]
        wanted = open & (history != self.golden.meta["mask_id"])
        return replace(self.rule, select=Leaning(self.rule.select, wanted))(raw, canvas, step, rng)


@pytest.mark.golden("dream")
def test_every_canvas_of_dreams_sampler(golden):
    model, checked = opened(golden), set()
    eps = golden.meta["eps"]
    for name, case in cases_of(golden).items():
        if name.startswith("fast."):
            continue
        length = case["max_new_tokens"]
        prompts = golden["in.prompt"].tolist()
        if name.endswith("left_padded"):
            prompts = unpadded(golden, "in.left_padded_prompt", "in.left_padded_attention_mask")
        shapers = [TopP(case["top_p"])] if "top_p" in case else []
        shapers += [TopK(case["top_k"])] if "top_k" in case else []
        if case["alg"] == "origin":
            rule = ancestral(Linear(eps=0), model.prior, likeliest)
        else:
            rule = Unmask(PROPOSE[case["alg"]], by_budget, shapers=tuple(shapers))
        plan = Blocks(length, case["steps"], Shrinking(eps), times=Down(eps))
        canvases, run = trace(model, prompts, length, greedy(Recorded(rule, golden, name), plan, nothing))
        seen = torch.stack([canvas.tokens for canvas in canvases[1:]])
        if run.valid is not None:
            seen = torch.where(run.valid, seen, golden[name + ".history"])
        golden.check(name + ".history", seen)
        golden.check(name + ".tokens", seen[-1])
        assert len(run.reader.passes) == case["steps"]
        checked |= {name + ".history", name + ".tokens"}
    inputs = set(golden.names(r".*\.uniforms"))
    assert checked == set(golden.names(r"(maskgit_plus|topk_margin|entropy|origin)\..*")) - inputs


@pytest.mark.golden("dream")
def test_every_pass_of_fast_dllm_for_dream(golden):
    model, checked = opened(golden), set()
    for name, case in cases_of(golden, "fast.").items():
        length, cache = case["max_new_tokens"], name.split(".")[1]
        select = Above(case["threshold"]) if "threshold" in case else by_budget
        rule = Unmask(PROPOSE[case["alg"]], select)
        if cache == "none":
            how = greedy(
                replace(rule, select=AtMost(select)), Blocks(length, case["steps"], caught_up, patient=True), nothing
            )
        else:
            plan = Blocks(case["block_length"], case["steps"], Shrinking(golden.meta["eps"]), share=True)
            how = greedy(Seeded(rule), plan, POLICIES[cache])
        runs = [trace(model, [prompt], length, how)[1] for prompt in golden["in.prompt"].tolist()]
        golden.check(name + ".tokens", torch.cat([run.canvas.tokens for run in runs]))
        golden.check(name + ".nfe", torch.tensor([len(run.reader.passes) for run in runs]))
        for i, run in enumerate(runs):
            golden.check(f"{name}.query_lengths.{i}", torch.tensor(run.reader.passes))
            checked.add(f"{name}.query_lengths.{i}")
        checked |= {name + ".tokens", name + ".nfe"}
    assert checked == set(golden.names(r"fast\..*"))


@pytest.mark.golden("dream")
def test_filters_and_the_three_confidences(golden):
    raw, checked = golden["in.filter_logits"][None], {"filter.argmax"}
    golden.check("filter.argmax", first_largest(raw)[0])
    scores = {"conf": probable, "margin": margin_of, "neg_entropy": negative_entropy}
    for name in golden.names(r"filter\.(?!argmax).*"):
        kind, *numbers = name.removeprefix("filter.").rsplit("_top_p_", 1) if "_top_p_" in name else [name]
        if kind in scores:
            p, k = numbers[0].split("_top_k_")
            shaped = TopK(int(k)).filtered(TopP(float(p)).filtered(raw))
            golden.check(name, scores[kind](shaped, first_largest(shaped))[0])
        else:
            value = name.rsplit("_", 1)[1]
            shaped = TopP(float(value)).filtered(raw) if "top_p" in name else TopK(int(value)).filtered(raw)
            golden.check(name, shaped[0].clamp_min(float(golden[name].min())))
        checked.add(name)
    assert checked == set(golden.names(r"filter\..*"))
