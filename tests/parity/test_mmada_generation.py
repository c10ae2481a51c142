"""MMaDA's image sampler, step by step: its schedule, its guidance, what it masks again.

The published loop draws every open column in every step and masks the unlikeliest again; ours writes the likeliest.
Its last step masks a column again and returns the last draw all the same: ours writes it.  Sampled tokens are replayed,
and steps whose order was drawn go on from the recorded canvas.
"""

import math

import pytest
import torch
from generations import Leaning, opened

from mezzotint.decode.caches.policies import nothing
from mezzotint.decode.canvas import Span, Step, infill
from mezzotint.decode.plan import Blocks, Leaving, cosine, even
from mezzotint.decode.propose import likeliest, probable
from mezzotint.decode.reader import ClassifierFreeGuidance, Reader
from mezzotint.decode.rule import Unmask
from mezzotint.decode.select import by_budget
from mezzotint.decode.shapers import Ban

KNOWN = 1e30


@pytest.mark.golden("mmada_t2i")
@torch.no_grad()
def test_every_step_of_the_image_sampler(golden):
    meta, model, checked = golden.meta, opened(golden), set()
    first, image = meta["resolution_argument"] + 1, meta["num_vq_tokens"]
    codes = torch.arange(model.vocab) - meta["text_vocab"]
    ban = Ban((codes < 0) | (codes >= meta["codebook_size"]))
    blind = golden["in.uncond_input_ids"]
    for name, case in meta["cases"].items():
        reader = Reader(model.network, nothing, valid=golden["in.attention_mask"].bool())
        if case["guidance_scale"]:
            reader.guidance = ClassifierFreeGuidance(
                case["guidance_scale"], blind, golden["in.uncond_attention_mask"].bool()
            )
        window = slice(first, first + image)
        steps, canvas, heat = Blocks(image, meta["timesteps"], Leaving(image, cosine)), None, case["temperature"]
        for k, inputs in enumerate(golden[f"{name}.inputs"]):
            rows = [
                [
                    None if first <= at < first + image and token == meta["mask_id"] else token
                    for at, token in enumerate(row)
                ]
                for row in inputs.tolist()
            ]
            canvas = infill(rows, model.prior)
            # what earlier steps wrote is not given: both halves of a guided pass read it
            canvas.fixed[:, window] = False
            step = plan_step(steps, canvas, k, first, image)
            drawn = golden[f"{name}.sampled"][k] + meta["text_vocab"]
            raw = ban.filtered(reader(canvas, step))
            open = canvas.open[:, window]
            if case.get("greedy"):
                assert torch.equal(likeliest(raw, canvas.rng)[0][open], drawn[open])
            score = probable(raw, drawn)
            golden.check(
                f"{name}.selected_probs",
                torch.stack(
                    [
                        *golden[f"{name}.selected_probs"][:k],
                        score.masked_fill(~open, KNOWN),
                        *golden[f"{name}.selected_probs"][k + 1 :],
                    ]
                ),
            )
            masking = golden[f"{name}.masking"][k]
            stays = (open.sum(-1) - step.budget)[:, None]
            assert torch.equal(stays.clamp_min(1), golden[f"{name}.mask_len"][k])
            if case.get("greedy"):
                rule = Unmask(
                    lambda logits, rng, drawn=drawn, score=score: (drawn, score), Leaning(by_budget, open & ~masking)
                )
                after = rule(raw, canvas, step, canvas.rng)
                assert torch.equal(after.open[:, window], masking & open)
            heat *= even(k + 1, meta["timesteps"])
            assert math.isclose(heat, golden[f"{name}.temperature"][k], rel_tol=1e-5, abs_tol=1e-7)
        final = torch.where(open, drawn, inputs[:, window]) - meta["text_vocab"]
        golden.check(f"{name}.result", final)
        checked |= {
            f"{name}.{field}"
            for field in ("inputs", "mask_len", "masking", "result", "sampled", "selected_probs", "temperature")
        }
    assert checked == set(golden.names(r"t2i\..*"))


def plan_step(plan, canvas, k, first, image):
    """The plan's step k for the columns of the image."""
    left = canvas.open.sum(-1)
    budget = plan.budget(left, left, k, plan.steps)
    times = (torch.full((len(left), 1), even(i, plan.steps)) for i in (k, k + 1))
    return Step(Span(torch.full_like(left, first), image), budget, k, *times)


@pytest.mark.golden("mmada_t2i")
def test_the_schedules(golden):
    total = golden.meta["timesteps"]
    shares = [(k + 1) / total for k in range(total)]
    golden.check("schedule.cosine", torch.tensor([cosine(x) for x in shares]), atol=1e-6)
    golden.check("schedule.linear", torch.tensor([even(k + 1, total) for k in range(total)]), atol=2e-6)
