"""LLaDA's sampler and Fast-dLLM's caches: every canvas, every token, every pass.

Fast-dLLM's factor rule takes the last column of a block even where it alone fails; the paper's does not.  The recorded
loop is `Factor(lenient=True)`.  LLaDA's `confidence_eos_eot_inf` holds back the end of turn only, as published.
"""

import pytest
import torch
from generations import among, cases_of, greedy, opened, trace, unpadded

from mezzotint.config import from_dict
from mezzotint.decode.caches.policies import Dual, Prefix, nothing
from mezzotint.decode.methods.presets import Preset, decoding
from mezzotint.decode.plan import Blocks
from mezzotint.decode.propose import EndTokensLast, likeliest
from mezzotint.decode.rule import Unmask
from mezzotint.decode.select import Above, Factor, most_confident
from mezzotint.decode.shapers import Ban

POLICIES = {"none": nothing, "prefix": Prefix(), "dual": Dual()}


def sampler(golden, case, model, policy):
    meta, propose, select, shapers = golden.meta, likeliest, most_confident, ()
    if case.get("logits_eos_inf"):
        shapers = (Ban(among([meta["eos_id"]], model.vocab)),)
    if case.get("confidence_eos_eot_inf"):
        propose = EndTokensLast(likeliest, among([meta["eot_id"]], model.vocab))
    if "threshold" in case:
        select = Above(case["threshold"])
    if "factor" in case:
        select = Factor(case["factor"], lenient=True)
    plan = Blocks(case["block_length"], case["steps"], share=True)
    return greedy(Unmask(propose, select, shapers=shapers), plan, policy, guidance=case.get("cfg_scale", 0.0))


@pytest.mark.golden("llada_moe")
@pytest.mark.golden("llada_gqa_tied")
@pytest.mark.golden("llada_dense")
def test_every_canvas_of_lladas_sampler(golden):
    model, checked = opened(golden), set()
    for name, case in cases_of(golden, "llada.").items():
        prompts = golden["in.prompt"].tolist()
        if "left_padded" in case.get("prompt", ""):
            prompts = unpadded(golden, "in.left_padded_prompt", "in.left_padded_attention_mask")
        canvases, run = trace(model, prompts, case["gen_length"], sampler(golden, case, model, nothing))
        seen = torch.stack([canvas.tokens for canvas in canvases])
        if run.valid is not None:
            seen = torch.where(run.valid, seen, golden[name + ".states"])
        golden.check(name + ".states", seen)
        golden.check(name + ".tokens", seen[-1])
        assert run.reader.passes == [seen.shape[-1]] * (len(golden[name + ".states"]) - 1)
        checked |= {name + ".states", name + ".tokens"}
    assert checked == set(golden.names(r"llada\..*"))


@pytest.mark.golden("llada_gqa_tied")
@pytest.mark.golden("llada_dense")
def test_every_pass_of_fast_dllm(golden):
    model, checked = opened(golden), set()
    for name, case in cases_of(golden, "fast.").items():
        how = sampler(golden, case, model, POLICIES[name.split(".")[1]])
        traces = [trace(model, [prompt], case["gen_length"], how) for prompt in golden["in.prompt"].tolist()]
        golden.check(name + ".tokens", torch.cat([run.canvas.tokens for _, run in traces]))
        golden.check(name + ".nfe", torch.tensor([len(run.reader.passes) for _, run in traces]))
        checked |= {name + ".tokens", name + ".nfe"}
        for i, (canvases, run) in enumerate(traces):
            golden.check(f"{name}.query_lengths.{i}", torch.tensor(run.reader.passes))
            checked.add(f"{name}.query_lengths.{i}")
            if f"{name}.states.{i}" in golden:
                golden.check(f"{name}.states.{i}", torch.cat([canvas.tokens for canvas in canvases]))
                checked.add(f"{name}.states.{i}")
    assert checked == set(golden.names(r"fast\..*"))


@pytest.mark.golden("llada_gqa_tied")
@pytest.mark.golden("llada_dense")
@pytest.mark.parametrize("cache", ["none", "prefix", "dual"])
def test_presets_write_what_the_published_loops_write(golden, cache):
    model = opened(golden)
    name = f"fast.{cache}.threshold"
    case = golden.meta["generate_cases"][name]
    settings = {"block": case["block_length"], "halt": False, "choose": {"kind": "threshold", "tau": case["threshold"]}}
    how = from_dict(Preset, {**settings, "cache": cache})
    for i, prompt in enumerate(golden["in.prompt"].tolist()):
        _, run = trace(model, [prompt], case["gen_length"], decoding(how, model, case["gen_length"]))
        assert torch.equal(run.canvas.tokens[0], golden[name + ".tokens"][i])
        assert len(run.reader.passes) == golden[name + ".nfe"][i]
