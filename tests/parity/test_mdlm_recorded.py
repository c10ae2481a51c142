"""MDLM's published code and this one agree on schedules, losses and single steps of every sampler."""

import re

import pytest
import torch
from given import Fixed, Noised, Uniforms, batch_of, ticked

from mezzotint.batch import Batch
from mezzotint.decode.propose import Draw
from mezzotint.families.mdlm import MDLM, analytic, mdlm, step
from mezzotint.objectives.discrete_time_bound import DiscreteTimeBound
from mezzotint.objectives.times import Importance, strata, whole
from mezzotint.processes.absorbing import Absorbing
from mezzotint.processes.subs import banned, subs
from mezzotint.rng import Rng
from mezzotint.schedules import Cosine, Exponential, Geometric, Linear, noise_rate, total_noise

ANY = Rng(0)


def schedule(golden, name):
    """The published name as one of ours; its limits stand in the description."""
    meaning = golden.meta["tensors"][f"schedule.{name}.sigma"]["meaning"]
    limits = {key: float(value) for key, value in re.findall(r"'s(min|max)': ([\d.e-]+)", meaning)}
    kinds = {"loglinear": Linear, "cosine": Cosine, "cosinesqr": lambda: Cosine(power=2)}
    if name in kinds:
        return kinds[name]()
    kind = {"linear": Exponential, "geometric": Geometric}[name.rstrip("0123456789")]
    return kind(low=limits["min"], high=limits["max"])


def recorded(golden, schedule):
    config = golden.config
    return Noised(config["vocab_size"], config["mask_index"], schedule, golden["xt"])


def told(tensor):
    return lambda batch, rng: tensor[:, None]


def schedules(golden):
    grid, outputs = golden["t_grid"], {}
    for tensor in golden.names(r"schedule\.\w+\.sigma"):
        name = tensor.split(".")[1]
        outputs[tensor] = total_noise(schedule(golden, name), grid)
        outputs[f"schedule.{name}.dsigma"] = noise_rate(schedule(golden, name), grid)
    outputs["schedule.loglinear.importance_t"] = Importance(whole, Linear()).mapped(grid)
    uniforms = golden["t_uniform"]
    outputs["t_stratified"] = strata(len(uniforms), Uniforms(uniforms), None, golden.config["sampling_eps"])
    return outputs


def continuous_losses(golden):
    outputs, batch = {}, batch_of(golden)
    # the recorded times have been through importance sampling already; a change of variables starts from uniform ones
    mapped = Importance(told(golden["t"]), Linear())
    drawn = {"importance_sampling": told(golden["t"]), "change_of_variables": mapped}
    cases = {name.split(".")[1]: None for name in golden.names(r"loss\.\w+\.nlls")}
    for case in cases:
        if case in drawn:
            process = recorded(golden, Linear())
            family = mdlm(process, drawn[case], weight=lambda t: torch.full_like(t, mapped.weight))
            outputs[f"loss.{case}.move_chance"] = 1 - process.alpha(drawn[case](batch, ANY))
        else:
            family = mdlm(recorded(golden, schedule(golden, case)), told(golden["t"]))
        loss = family.objective(Fixed(golden["logits"]), batch, ANY)
        outputs[f"loss.{case}.nlls"] = loss.per_token
        reference = family.objective.reference(Fixed(golden["logits"]), batch, ANY)
        torch.testing.assert_close(loss.total, reference.total)
        torch.testing.assert_close(loss.per_token, reference.per_token)
        if f"loss.{case}.mean" in golden:
            outputs[f"loss.{case}.mean"] = loss.total
    return outputs


def predictions(golden):
    mask = golden.config["mask_index"]
    return {
        "subs": (lambda raw, x_t: subs(raw, x_t, mask), False),
        "d3pm": (lambda raw, x_t: raw.log_softmax(-1), True),
        "d3pm_subs_masking": (lambda raw, x_t: banned(raw, x_t, mask), True),
    }


def finite_losses(golden):
    outputs, batch, steps = {}, batch_of(golden), golden.config["T"]
    whole_target = type(batch)(batch.tokens, torch.ones_like(batch.target))
    network, process = Fixed(golden["logits"]), recorded(golden, Linear(eps=0))
    for case, (predict, reconstruct) in predictions(golden).items():
        times = told(golden["t_discrete"])
        chain = DiscreteTimeBound(process, predict, steps, times=times)
        outputs[f"loss_T.{case}.log_probs"] = predict(golden["logits"], golden["xt"])
        outputs[f"loss_T.{case}.diffusion"] = chain(network, whole_target, ANY).per_token
        full = DiscreteTimeBound(process, predict, steps, reconstruct, times)
        outputs[f"loss_T.{case}.nlls"] = full(network, batch, ANY).per_token
    return outputs


def steps(golden):
    config, raw, x = golden.config, golden["logits"], golden["xt"]
    vocab, mask = config["vocab_size"], config["mask_index"]
    t = golden["t"][:, None]
    s, end = t - config["dt"], torch.full_like(t, config["sampling_eps"])
    outputs = {"subs_log_probs": subs(raw, x, mask), "ddpm_cache.p_x0": subs(raw, x, mask).exp()}
    for case, eps in (("ddpm", 1e-3), ("ddpm_cache", 0.0)):
        process = Absorbing(vocab, mask, Linear(eps=eps))
        masked, p0 = torch.full_like(x, mask), subs(raw, x, mask).exp()
        # the recording is before revealed tokens are copied, and lacks the division by the masked share
        share = (1 - process.alpha(t))[..., None]
        outputs[f"{case}.probs"] = process.posterior(p0, masked, process.alpha(t), process.alpha(s)) * share
        outputs[f"{case}.argmax_next"] = step(process, raw, x, t, s).argmax(-1)
    process = Absorbing(vocab, mask, Linear())
    score = process.scores(p0, x, process.alpha(t))
    outputs["analytic.score"] = score
    outputs["analytic.probs"] = process.tweedie(score, x, process.alpha(t) / process.alpha(s))
    outputs["analytic.argmax_next"] = outputs["analytic.probs"].argmax(-1)
    last = process.tweedie(process.scores(p0, x, process.alpha(end)), x, process.alpha(end))
    outputs["denoiser.probs"] = last.index_fill(-1, torch.tensor([mask]), 0.0)
    outputs["denoiser.argmax"] = outputs["denoiser.probs"].argmax(-1)
    outputs["gumbel_sample"] = Draw(precise=True)(raw, Uniforms(golden["gumbel_u"]))[0]
    return outputs


@pytest.mark.golden("mdlm")
def test_every_recorded_number_of_mdlm(golden):
    outputs = schedules(golden) | continuous_losses(golden) | finite_losses(golden) | steps(golden)
    assert ticked(golden, outputs) == sorted(golden.outputs())


def test_importance_sampling_gives_the_same_bound():
    """The mean over times of a smooth loss does not depend on which times are drawn."""

    def loss(t):
        return t**2 * (1 - 0.5 * t)

    t = strata(200_000, Rng(1), None, 0.0)[:, None]
    plain = MDLM().build(4, 3).objective.weight(t) * loss(t)
    drawn = Importance(lambda batch, rng: t, Linear())
    weighed = drawn.weight * loss(drawn(None, ANY))
    torch.testing.assert_close(weighed.mean(), plain.mean(), rtol=2e-3, atol=0)


def test_the_analytic_step_keeps_revealed_tokens_and_reveals_as_often_as_the_posterior():
    process = Absorbing(4, 3, Linear())
    raw = torch.tensor([1.0, 0.5, -1.0, 9.0], dtype=torch.float64).expand(4000, 2, 4)
    x_t, t = torch.tensor([[3, 1]]).expand(4000, 2), torch.full((4000, 1), 0.7, dtype=torch.float64)
    x_s = analytic(process, raw, x_t, t, t - 0.3, Rng(4))
    assert (x_s[:, 1] == 1).all()
    often = torch.nn.functional.one_hot(x_s[:, 0], 4).double().mean(0)
    wanted = step(process, raw[:1], x_t[:1], t[:1], t[:1] - 0.3)[0, 0]
    torch.testing.assert_close(often, wanted, atol=0.025, rtol=0)


def test_even_weights_train_on_plain_cross_entropy_and_keep_the_bound():
    even, plain = MDLM(weights="even").build(4, 3), MDLM().build(4, 3)
    assert even.objective.weight(torch.tensor([0.1])) == 1
    tokens = torch.randint(0, 3, (6, 5))
    batch, network = Batch(tokens, torch.ones_like(tokens, dtype=torch.bool)), Fixed(torch.randn(6, 5, 4))
    bound = even.bound(network, batch, ANY).total
    torch.testing.assert_close(bound, plain.bound(network, batch, ANY).total)
    # but for the last thousandth of the masks, plain training is on the bound
    torch.testing.assert_close(bound, plain.objective(network, batch, ANY).total, rtol=0.1, atol=0)


def test_the_first_step_of_a_chain_has_finite_loss_and_gradients():
    chain = DiscreteTimeBound(Absorbing(4, 3, Linear(eps=0)), lambda raw, x_t: raw.log_softmax(-1), 7)
    raw = torch.randn(2, 5, 4, dtype=torch.float64, requires_grad=True)
    x_0, x_t = torch.zeros(2, 5, dtype=torch.long), torch.full((2, 5), 3)
    loss = chain.token_loss(raw, x_0, x_t, torch.full((2, 1), 1 / 7, dtype=torch.float64))
    loss.sum().backward()
    assert raw.grad.isfinite().all()
    # the only way is to reveal: -log of the token's share of what is not [MASK], and the mass on it is lost too
    p = raw.detach().softmax(-1)
    expected = -7 * (p[..., 0] / (1 + 6 * p[..., 3])).log()
    torch.testing.assert_close(loss.detach(), expected, rtol=1e-6, atol=1e-6)
