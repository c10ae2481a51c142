"""ReMDM's strategies take back and reveal as often as the published code does, and never change how much is masked."""

import re

import pytest
import torch
from given import Uniforms, raced, ticked

from mezzotint.decode.canvas import Canvas, Span, Step, write
from mezzotint.decode.loop import decode
from mezzotint.decode.nucleus import nucleus
from mezzotint.decode.plan import Blocks
from mezzotint.decode.revise import Remask
from mezzotint.decode.samplers.remdm import Cap, Confident, Flow, ForwardBackward, ForwardBackwardPlan, Loop, Rescale
from mezzotint.decode.select import reveal
from mezzotint.families.remdm import ReMDM, probabilities, remasking
from mezzotint.processes.absorbing import Absorbing
from mezzotint.processes.subs import subs
from mezzotint.rng import draw
from mezzotint.schedules import Linear


class Constant(Uniforms):
    """Equal numbers everywhere, under which a race is won by the likeliest."""

    def uniform(self, shape, device=None):
        return self.values.double().expand(shape)


def strategies(golden):
    config, notes = golden.config, " ".join(golden.meta["notes"])
    mass = float(re.search(r"cumulative probability <= ([\d.]+)", notes)[1])
    corrected = float(re.search(r"so ([\d.]+) is used", notes)[1])
    eta = config["eta"]
    loop = Loop(eta=eta, t_on=config["t_on"], t_off=config["t_off"], level=config["alpha_on"])
    return {
        "mdlm": (Cap(eta=0.0), 1.0),
        "forward-backward": (ForwardBackward(), 1.0),
        "remdm-cap": (Cap(eta=eta), 1.0),
        "remdm-cap-nucleus": (Cap(eta=eta), mass),
        "remdm-rescale": (Rescale(eta=eta), 1.0),
        "remdm-conf": (Confident(), 1.0),
        "remdm-loop": (loop, 1.0),
        "dfm": (Flow(), corrected),
    }


def state(golden, t, s):
    """The recorded canvas before the step, and the step."""
    x, mask = golden["x"], golden.config["mask_index"]
    rows, width = x.shape
    canvas = Canvas(
        tokens=x,
        open=x == mask,
        fixed=torch.zeros_like(x, dtype=torch.bool),
        score=(-golden["conf"]).masked_fill(x == mask, 0.0),
        born=torch.zeros_like(x, dtype=torch.int32),
        step=torch.zeros(rows, dtype=torch.int32),
        seed=torch.arange(rows),
    )
    times = (torch.full((rows, 1), u, dtype=torch.float64) for u in (t, s))
    return canvas, Step(Span(torch.zeros(rows, dtype=torch.long), width), torch.zeros(rows), 0, *times)


def one_step(golden, name, t):
    """What is recorded of a strategy at one time, from the library."""
    config, x, raw = golden.config, golden["x"], golden["logits"]
    process, (strategy, mass) = (
        Absorbing(config["vocab_size"], config["mask_index"], Linear(eps=0)),
        strategies(golden)[name],
    )
    outputs = {}
    s = t - config["dt"]
    if name == "dfm":
        s = float(strategy.after(torch.tensor([t], dtype=torch.float64), config["steps"]))
        outputs["next_time"] = torch.tensor(s, dtype=torch.float64)
    canvas, step = state(golden, t, s)
    after = remasking(process, strategy, mass)(raw, canvas, step, Constant(torch.tensor(0.5)))
    p0 = nucleus(subs(raw, x, process.mask_id).exp(), mass)
    phase = strategy.levels(process.schedule, step.t, step.s)[0]
    if name == "mdlm" or (name == "remdm-loop" and not strategy.sigma(step.t, phase, phase, p0).any()):
        # plain steps are recorded before revealed tokens are copied, and lack the division by the masked share
        masked = torch.full_like(x, process.mask_id)
        levels = strategy.levels(process.schedule, step.t, step.s)
        outputs["probs"] = process.posterior(p0, masked, *levels) * (1 - levels[0])[..., None]
    else:
        outputs["probs"] = probabilities(process, strategy, p0, x, golden["conf"], step.t, step.s)
    outputs["argmax"] = after.tokens
    outputs["conf_after"] = (-after.score).masked_fill(after.open, -torch.inf)
    return outputs


@pytest.mark.golden("remdm")
def test_every_recorded_step_of_remdm(golden, monkeypatch):
    monkeypatch.setattr("mezzotint.families.remdm.draw", raced)
    outputs = {}
    cases = sorted({name.rsplit(".", 1)[0] for name in golden.outputs()})
    for case in cases:
        name, t = re.fullmatch(r"([\w-]+)\.t([\d.]+)", case).groups()
        found = one_step(golden, name, float(t))
        outputs |= {f"{case}.{key}": value for key, value in found.items() if f"{case}.{key}" in golden}
    assert ticked(golden, outputs) == sorted(golden.outputs())


@pytest.mark.golden("remdm")
@pytest.mark.parametrize(("case", "rescaled"), [("remdm-cap", False), ("remdm-rescale", True)])
def test_the_modular_revision_has_the_same_chances(golden, case, rescaled):
    """decode/revise.py `Remask` beside a Bernoulli selector is the same sampler in parts."""
    config, x = golden.config, golden["x"]
    mask, schedule = config["mask_index"], Linear(eps=1e-9)
    cases = [name for name in golden.names(rf"{case}\.t[\d.]+\.probs")]
    assert cases
    for name in cases:
        t = float(re.search(r"\.t([\d.]+)\.", name)[1])
        _, step = state(golden, t, t - config["dt"])
        sigma = Remask(schedule, config["eta"], rescaled=rescaled).sigma(step)
        chance = reveal(schedule.alpha(step.t), schedule.alpha(step.s), sigma)
        want = golden[name][..., mask]
        torch.testing.assert_close((1 - chance).expand(x.shape)[x == mask], want[x == mask], atol=1e-7, rtol=1e-6)
        torch.testing.assert_close(sigma.expand(x.shape)[x != mask], want[x != mask], atol=1e-7, rtol=1e-6)


EXACT = [Cap(eta=0.3), Rescale(eta=0.7), ForwardBackward(), Flow(), Loop(t_on=0.6, t_off=0.3, level=0.5)]


@pytest.mark.parametrize("strategy", EXACT, ids=lambda strategy: strategy.kind)
def test_every_strategy_keeps_the_expected_number_of_masks(strategy):
    """With any prediction, the masked share after each step is 1 - a_s, and nothing is masked at the end."""
    family = ReMDM(strategy=strategy, nucleus=1.0).build(5, 4)
    canvas = write([[]] * 2000, 6, family.process.prior)
    raw = torch.tensor([0.5, -1.0, 0.0, 1.0, 3.0]).expand(2000, 6, 5)
    steps = 10
    plan = Blocks(6, steps)
    for k, after in enumerate(decode(canvas, lambda canvas, step: raw, family.rule, plan)):
        t, s = (torch.tensor([[1 - i / steps]]) for i in (k, k + 1))
        a_s = strategy.levels(family.process.schedule, t, s)[1]
        # in the loop the survival at a step's start is that of its own phase, so only steps within a phase are exact
        if strategy.kind != "loop" or k in (0, 1, 2, 4, 5, 8, 9):
            torch.testing.assert_close(after.open.float().mean(), 1 - a_s[0, 0], atol=0.025, rtol=0)
    assert not after.open.any()


def test_sharing_out_by_confidence_masks_more_than_the_process_and_still_ends():
    family = ReMDM(strategy=Confident(), nucleus=1.0).build(5, 4)
    canvas = write([[]] * 2000, 6, family.process.prior)
    raw = torch.tensor([0.5, -1.0, 0.0, 1.0, 3.0]).expand(2000, 6, 5)
    shares = [after.open.float().mean() for after in decode(canvas, lambda c, s: raw, family.rule, Blocks(6, 10))]
    assert shares[1] > 0.8 + 0.025
    assert shares[-1] == 0


def test_without_remasking_the_draws_are_those_of_mdlm():
    process = Absorbing(5, 4, Linear())
    raw = torch.randn(3, 6, 5, generator=torch.Generator().manual_seed(0))
    canvas = write([[]] * 3, 6, process.prior)
    (step, *_) = Blocks(6, 3)(canvas)
    after = remasking(process, Cap(eta=0.0))(raw, canvas, step, canvas.rng)
    p0 = subs(raw.double(), canvas.tokens, 4).exp()
    expected = draw(process.posterior(p0, canvas.tokens, process.alpha(step.t), process.alpha(step.s)), canvas.rng)
    assert torch.equal(after.tokens, expected)


def test_given_columns_and_the_mask_are_never_written():
    family = ReMDM(strategy=Cap(eta=1.0)).build(5, 4)
    canvas = write([[2, 0]] * 50, 6, family.process.prior)
    raw = torch.randn(50, 8, 5, generator=torch.Generator().manual_seed(1)) + torch.tensor([0, 0, 0, 0, 9.0])

    def denoise(canvas, step):
        return raw.gather(1, step.window.columns()[..., None].expand(-1, -1, 5))

    *_, after = decode(canvas, denoise, family.rule, Blocks(8, 12))
    assert (after.tokens[:, :2] == torch.tensor([2, 0])).all()
    assert (after.tokens < 4).all()


def test_the_flow_corrector_takes_more_steps_where_it_must_and_ends_at_zero():
    process, flow = Absorbing(5, 4, Linear()), Flow()
    canvas = write([[]] * 4, 6, process.prior)
    times = [(float(step.t[0]), float(step.s[0])) for step in ForwardBackwardPlan(flow, 5)(canvas)]
    assert times[0][0] == 1
    assert times[-1][1] == 0
    assert all(0 < t - s <= 1 / 5 + 1e-12 for t, s in times)
    assert len(times) > 5
    raw = torch.zeros(4, 6, 5)
    *_, after = decode(canvas, lambda canvas, step: raw, remasking(process, flow), ForwardBackwardPlan(flow, 5))
    assert not after.open.any()
