"""SDAR's block diffusion: every block before every pass, every token, every pass.

The published loop reads a finished block in a pass of its own, the last one too, which nothing comes after: ours leaves
that pass out.  Where fewer columns are open than the schedule asks for, the published loop also overwrites decided
ones; ours, as the paper, does not: those steps go on from the recorded block.  Drawn tokens are replayed.
"""

from dataclasses import replace
from functools import partial

import pytest
import torch
from generations import Leaning, cases_of, greedy, opened

from mezzotint.decode.caches.policies import FinishedBlocks, UpToBlock
from mezzotint.decode.plan import Blocks, Over, multiples
from mezzotint.decode.propose import likeliest, probable
from mezzotint.decode.rule import Unmask
from mezzotint.decode.run import Run, generate
from mezzotint.decode.select import Above, OnTime, leftmost, most_confident
from mezzotint.decode.shapers import Temperature, TopK, TopP

SELECT = {
    "sequential": lambda case: leftmost,
    "low_confidence_static": lambda case: most_confident,
    "low_confidence_dynamic": lambda case: OnTime(Above(case["confidence_threshold"], always=False)),
}


class Replayed:
    """The recorded draws of one prompt, scored by us."""

    def __init__(self, golden, name, i):
        self.drawn, self.scores = golden[f"{name}.sampled.{i}"], []

    def __call__(self, logits, rng):
        tokens = self.drawn[len(self.scores)][None]
        self.scores.append(probable(logits, tokens))
        return tokens, self.scores[-1]


def parts(case, propose):
    heat = (Temperature(case["temperature"]),) if case["temperature"] != 1 else ()
    top_k = (TopK(case["top_k"]),) if case["top_k"] else ()
    top_p = (TopP(case["top_p"]),) if case["top_p"] < 1 else ()
    rule = Unmask(propose, SELECT[case["remasking_strategy"]](case), shapers=(*heat, *top_k, *top_p))
    block = case["block_length"]
    return rule, Blocks(block, case["denoising_steps"], Over(block), place=multiples)


class Corrected:
    """A rule that takes over what the recorded loop overwrote in decided columns: no more than its excess."""

    def __init__(self, rule, golden, name, i):
        self.rule, self.inputs, self.result = rule, golden[f"{name}.denoise_inputs.{i}"], golden[f"{name}.tokens"][i]
        self.mask_id, self.k = golden.meta["mask_id"], 0

    def __call__(self, raw, canvas, step, rng):
        self.k += 1
        columns = step.window.columns()
        open = canvas.open.gather(-1, columns)
        theirs = self.inputs[self.k : self.k + 1]
        if not len(theirs) or (theirs == self.mask_id).sum() >= open.sum():
            theirs = self.result[columns]  # the record goes on with another block
        committed = open & (theirs != self.mask_id)
        after = replace(self.rule, select=Leaning(self.rule.select, committed))(raw, canvas, step, rng)
        ours = after.tokens.gather(-1, columns)
        overwritten = ~open & (theirs != ours)
        assert int(overwritten.sum()) <= max(0, int(step.budget - open.sum(-1)))
        return replace(after, tokens=after.tokens.scatter(-1, columns, torch.where(overwritten, theirs, ours)))


@pytest.mark.golden("sdar_moe")
@pytest.mark.golden("sdar")
def test_every_block_of_block_diffusion(golden):
    model, checked = opened(golden), set()
    for name, case in cases_of(golden).items():
        ended = []
        for i, prompt in enumerate(golden["in.prompts"].tolist()):
            replayed = Replayed(golden, name, i)
            rule, plan = parts(case, replayed)
            block = case["block_length"]
            rule = Corrected(rule, golden, name, i)
            run = Run(
                replace(model, block=block),
                [prompt],
                case["gen_length"],
                greedy(rule, plan, FinishedBlocks(block, fused=False)),
            )
            inputs, last = [], run.canvas
            for canvas in run:
                moved = (canvas.open != last.open).nonzero()[:, 1]
                start = int(moved[0]) // block * block
                inputs.append(last.tokens[:, start : start + block])
                last = canvas
            stored = golden[f"{name}.stored.{i}"]
            lengths = [len(prompt) // block * block, *[block] * (len(stored) - 1)]
            assert run.reader.passes == lengths[: len(stored) - 1]
            assert bool(stored[-1])
            golden.check(f"{name}.denoise_inputs.{i}", torch.cat(inputs))
            golden.check(f"{name}.sampled_prob.{i}", torch.cat(replayed.scores))
            ended.append(last.tokens)
            checked |= {f"{name}.{field}.{i}" for field in ("denoise_inputs", "sampled", "sampled_prob", "stored")}
        golden.check(f"{name}.tokens", torch.cat(ended))
        checked |= {f"{name}.tokens", f"{name}.nfe"}
    assert checked == set(golden.names(r"(argmax|top_k_1|sampled)\..*"))


@pytest.mark.golden("sdar_moe")
@pytest.mark.golden("sdar")
@pytest.mark.parametrize("policy", [UpToBlock, FinishedBlocks])
def test_first_choices_need_no_replay_and_no_extra_pass(golden, policy):
    model = opened(golden)
    assert model.block == golden.meta["block_length"]
    for name, case in cases_of(golden, "argmax.").items():
        rule, plan = parts(case, likeliest)
        how = partial(greedy, plan=plan, policy=policy(case["block_length"]))
        for i, prompt in enumerate(golden["in.prompts"].tolist()):
            made = generate(model, [prompt], case["gen_length"], how(Corrected(rule, golden, name, i)))
            assert torch.equal(made.canvas.tokens[0], golden[name + ".tokens"][i])
            assert made.passes == int((~golden[f"{name}.stored.{i}"]).sum())
