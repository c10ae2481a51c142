"""RND1's sampler: the canvas before every pass, every token, every pass.

The published loop keeps the last column for an end token that it does not write, and pads it; a text then has one token
less.  Ours writes no such column: the record's is given.  With top-k or top-p its entropies are not numbers and the
order of columns is its build's: there only the tokens and the filters are compared, step by step.
"""

from itertools import pairwise

import pytest
import torch
from generations import cases_of, opened

from mezzotint.decode.caches.policies import nothing
from mezzotint.decode.canvas import infill
from mezzotint.decode.loop import decode
from mezzotint.decode.methods.entropy_bound import JointBound
from mezzotint.decode.plan import Blocks, floored
from mezzotint.decode.propose import entropy, first_largest, likeliest
from mezzotint.decode.reader import Reader
from mezzotint.decode.rule import Unmask
from mezzotint.decode.select import by_budget
from mezzotint.decode.shapers import Temperature, TopK, TopP


def canvas_of(golden, model, name, i):
    """The first recorded canvas; columns that hold the mask are open."""
    first = golden[f"{name}.inputs.{i}"][0].tolist()
    return infill([[None if token == golden.meta["mask_id"] else token for token in first]], model.prior)


@pytest.mark.golden("rnd1")
@torch.no_grad()
def test_every_canvas_before_every_pass(golden):
    model, checked = opened(golden), set()
    for name, case in cases_of(golden).items():
        rule = Unmask(entropy, by_budget)
        if "eb_gamma" in case:
            rule = JointBound(Unmask(likeliest), case["eb_gamma"])
        for i in range(len(golden["in.prompts"])):
            fields = {f"{name}.{field}.{i}" for field in ("inputs", "nfe", "tokens")}
            if "top_k" in case or "top_p" in case:
                filtered_tokens(golden, model, name, case, i)
                checked |= fields
                continue
            canvas, reader = canvas_of(golden, model, name, i), Reader(model.network, nothing)
            plan = Blocks(canvas.tokens.shape[1], case["num_steps"], floored)
            path = [canvas, *decode(canvas, reader, rule, plan)]
            golden.check(f"{name}.inputs.{i}", torch.cat([each.tokens for each in path[:-1]]))
            golden.check(f"{name}.tokens.{i}", path[-1].tokens[0])
            golden.check(f"{name}.nfe.{i}", torch.tensor([len(reader.passes)]))
            checked |= fields
    assert checked == set(golden.names(r"generate\..*"))


def filtered_tokens(golden, model, name, case, i):
    """Every token that was written is the first choice under the filters, and the counts are the schedule's."""
    inputs, result = golden[f"{name}.inputs.{i}"], golden[f"{name}.tokens.{i}"]
    states, reader = torch.cat([inputs, result[None]]), Reader(model.network, nothing)
    canvas, mask_id = canvas_of(golden, model, name, i), golden.meta["mask_id"]
    total = canvas.open.sum(-1)
    assert len(inputs) == int(golden[f"{name}.nfe.{i}"])
    for k, (now, after) in enumerate(pairwise(states)):
        canvas.tokens, canvas.open = now[None], (now == mask_id)[None]
        step = next(Blocks(len(now))(canvas_of(golden, model, name, i)))
        columns = step.window.columns()[0]
        raw = Temperature(case.get("temperature", 1.0)).filtered(reader(canvas, step))
        raw = TopP(case["top_p"]).filtered(TopK(case["top_k"]).filtered(raw))
        wrote = (now != after)[columns]
        assert torch.equal(first_largest(raw)[0][wrote], after[columns][wrote])
        assert int(wrote.sum()) == int(floored(total, canvas.open.sum(-1), k, case["num_steps"]))
