"""Selectors and revisions agree with public implementations on recorded steps.

Vectors computed with EntropyBoundScheduler and BlockRefinementScheduler of huggingface/diffusers 0.42.1, on random
logits; the draws themselves are left out.
"""

import pytest
import torch

from mezzotint.decode.plan import linear
from mezzotint.decode.propose import entropy, likeliest
from mezzotint.decode.select import Above, EntropyBound, OnTime
from mezzotint.rng import Rng

STEPS = range(4)


@pytest.mark.golden("diffusers_entropy_bound")
@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize(("case", "bound"), [("small", 0.1), ("medium", 2.0), ("large", 8.0)])
def test_the_entropy_bound_accepts_the_same_columns(golden, case, bound, step):
    temperature = 0.4 + 0.4 * (4 - step) / 4
    _, score = entropy(golden["in.logits"][step] / temperature, Rng(0))
    everything = torch.ones(2, 8, dtype=torch.bool)
    commit = EntropyBound(bound)(score, everything, torch.ones(2, dtype=torch.long))
    assert torch.equal(commit, golden[f"entropy_bound.{case}.{step}.accepted_index"])


@pytest.mark.golden("diffusers_block_refinement")
@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize(("case", "tau"), [("static", 2.0), ("threshold", 0.35)])
def test_a_threshold_with_a_budget_fills_the_same_masks(golden, case, tau, step):
    name = f"block.{case}.{step}."
    tokens, score = likeliest(golden["in.logits"][step], Rng(0))
    commit = OnTime(Above(tau))(
        score, golden[name + "sample"] == 39, linear(torch.tensor([8, 8]), torch.tensor([8, 8]), step, 4)
    )
    assert torch.equal(tokens, golden[name + "sampled_tokens"])
    torch.testing.assert_close(score, golden[name + "sampled_probs"], atol=1e-5, rtol=1e-5)
    assert torch.equal(commit, golden[name + "transfer_index"])
