"""Selectors and revisions agree with public implementations on recorded steps.

Vectors computed with EntropyBoundScheduler and BlockRefinementScheduler of huggingface/diffusers 0.42.1, and with
kuleshov-group/remdm at f830d659, on random logits; the draws themselves are left out.
"""

import pytest
import torch

from mezzotint.decode.canvas import Canvas, Span, Step
from mezzotint.decode.plan import linear
from mezzotint.decode.propose import entropy, likeliest
from mezzotint.decode.revise import Remask
from mezzotint.decode.select import Above, EntropyBound, OnTime, reveal
from mezzotint.rng import Rng
from mezzotint.schedules import Linear

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
    commit = OnTime(Above(tau))(score, golden[name + "sample"] == 39, linear(torch.tensor([8, 8]), step, 4))
    assert torch.equal(tokens, golden[name + "sampled_tokens"])
    torch.testing.assert_close(score, golden[name + "sampled_probs"], atol=1e-5, rtol=1e-5)
    assert torch.equal(commit, golden[name + "transfer_index"])


@pytest.mark.golden("remdm")
@pytest.mark.parametrize("t", ["0.3", "0.7", "1.0"])
@pytest.mark.parametrize(
    ("case", "remask"),
    [
        ("remdm-cap", Remask(Linear(eps=1e-9), 0.02)),
        ("remdm-rescale", Remask(Linear(eps=1e-9), 0.02, rescaled=True)),
    ],
)
def test_chances_of_revealing_and_masking_again_are_those_of_remdm(golden, case, remask, t):
    mask = 8
    a_t, a_s = (torch.tensor([[1 - float(t) + d]], dtype=torch.float64) for d in (0.0, 0.05))
    span = Span(torch.zeros(2, dtype=torch.long), 8)
    step = Step(span, torch.ones(2, dtype=torch.long), 0, 1 - a_t, 1 - a_s)
    sigma = remask.sigma(step)
    p0 = golden["logits"].index_fill(-1, torch.tensor([mask]), -torch.inf).softmax(-1)
    chance = reveal(a_t, a_s, sigma)[..., None]
    masked = torch.cat([chance * p0[..., :mask], (1 - chance).expand(2, 8, 1)], -1)
    kept = torch.nn.functional.one_hot(golden["x"], mask + 1).double()
    again = torch.nn.functional.one_hot(torch.tensor(mask), mask + 1)
    visible = (1 - sigma[..., None]) * kept + sigma[..., None] * again
    got = torch.where((golden["x"] == mask)[..., None], masked, visible)
    # the survival at the end of the schedule is 1e-9 here and 0 there
    torch.testing.assert_close(got, golden[f"{case}.t{t}.probs"], atol=1e-7, rtol=1e-6)


@pytest.mark.golden("remdm")
def test_sharing_sigma_out_by_doubt_masks_as_often_as_remdm(golden):
    decided = golden["x"] != 8
    rows = 4000
    a_t, a_s = torch.full((rows, 1), 0.3), torch.full((rows, 1), 0.35)
    for row in range(2):
        state = Canvas(
            tokens=golden["x"][row].expand(rows, -1),
            open=~decided[row].expand(rows, -1),
            fixed=torch.zeros(rows, 8, dtype=torch.bool),
            score=-golden["conf"][row].nan_to_num(0.0, 0.0, 0.0).expand(rows, -1).float(),
            born=torch.zeros(rows, 8, dtype=torch.int32),
            step=torch.full((rows,), 5, dtype=torch.int32),
            seed=torch.arange(rows),
        )
        step = Step(Span(torch.zeros(rows, dtype=torch.long), 8), torch.ones(rows), 0, 1 - a_t, 1 - a_s)
        often = Remask(Linear(eps=1e-9), 1.0, rescaled=True, doubtful=True)(state, step, Rng(3)).float().mean(0)
        expected = golden["remdm-conf.t0.7.probs"][row, :, 8] * decided[row]
        torch.testing.assert_close(often.double(), expected, atol=0.03, rtol=0)
