"""Diffusion-LM's tables, chains, losses and steps are those of the published code.

Its step i is our time (i + 1) / T; the network of the recording is linear in vectors and in i / T.
"""

import re

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from mezzotint.decode.samplers.ddpm import GaussianReverse
from mezzotint.families.diffusion_lm import DiffusionLMLosses, diffusion_lm, first
from mezzotint.layouts import Full
from mezzotint.objectives.embedding_denoising import Noised, weighed
from mezzotint.processes.gaussian import Gaussian, Tied, coefficients
from mezzotint.processes.gaussian_schedules import TABLES, Respaced, Table, kept

pytestmark = pytest.mark.golden("diffusion_lm")


def eta(golden):
    """Of the recorded DDIM steps, told in their meaning."""
    return float(re.search(r"eta=([\d.]+)", golden.meta["tensors"]["ddim.plain.sample"]["meaning"])[1])


class Linear(nn.Module):
    """The recorded network."""

    def __init__(self, weights, steps):
        super().__init__()
        self.weights, self.steps = weights, steps

    def forward(self, inputs, t):
        index = (t - 1 / self.steps)[..., None]
        return inputs.x @ self.weights["W"] + self.weights["b"] + index * self.weights["c"]


def long(golden):
    """T of the long chain, and its schedule."""
    steps = len(golden["sqrt2000.betas"])
    return steps, Table.of(TABLES["sqrt"](steps))


def model(golden, precision=torch.float32):
    """The published code rounds its coefficients to float32; the recorded `x_start` and its rounding loss do not."""
    weights = load_file(golden.folder / "model.safetensors")
    steps, schedule = long(golden)
    table, spread = weights["word_embedding.weight"], first(schedule)
    head = Tied(len(table)).double()
    head.bias.data.copy_(weights["lm_head.bias"])
    process = Gaussian(table, schedule, spread=spread, head=head, trainable=True, precision=precision)
    return process, Linear(weights, steps), steps


def noised(golden, precision=torch.float32):
    """What the recorded losses are of, and the process, network and number of steps."""
    process, net, steps = model(golden, precision)
    tokens, t = golden["input_ids"], times(golden["t"], steps)
    z_0 = process.start(tokens, golden["noise_x0"])
    x = Noised(tokens, z_0, process.noised(z_0, t, golden["noise_xt"]), t)
    return x, ask(net, x.z_t, t), process, steps


def ask(net, z_t, t):
    return net(Full().arrange(z_t, z_t), t)


def times(index, steps):
    return (index.double() + 1)[:, None] / steps


@torch.no_grad()
def tables(golden):
    found = {}
    for name in golden.names(r"(?!respaced|sqrt2000)\w+\.betas"):
        found[name] = TABLES[name.removesuffix(".betas")](golden.config["T"])
    steps, schedule = long(golden)
    found["sqrt2000.betas"] = TABLES["sqrt"](steps)
    found["sqrt2000.alphas_cumprod"] = schedule.levels[1:]
    places = golden.meta["tensors"]["sqrt2000.posterior_variance"]["meaning"].rsplit(" ", 1)[-1]
    chosen = torch.tensor([int(x) for x in re.findall(r"\d+", places)])
    parts = coefficients(schedule.levels[1:], schedule.levels[:-1])
    names = ("posterior_mean_coef1", "posterior_mean_coef2", "posterior_variance")
    found |= {f"sqrt2000.{name}": part[chosen] for name, part in zip(names, parts, strict=True)}
    count = int(golden.config["respacing"])
    short = Respaced(steps).schedule(schedule, count)
    found["respaced.timesteps"] = kept(steps, count)
    found["respaced.betas"], found["respaced.alphas_cumprod"] = short.betas(), short.levels[1:]
    parts = coefficients(short.levels[1:], short.levels[:-1])
    found |= {f"respaced.{name}": part for name, part in zip(names, parts, strict=True)}
    found["respaced.posterior_log_variance_clipped"] = clipped(parts[2])
    return found


def clipped(variance):
    """Logarithms, the first one, of 0, replaced by the second."""
    return torch.cat([variance[1:2], variance[1:]]).log()


@torch.no_grad()
def losses(golden):
    x, raw, process, steps = noised(golden)
    card = DiffusionLMLosses(process, steps)
    terms = {name: term.mean(-1) for name, term in card(raw, x).items()}
    found = {"loss.total": sum(terms.values())} | {f"loss.{name}": terms[ours] for name, ours in THEIRS.items()}
    exact, its_raw, its_process, _ = noised(golden, torch.float64)
    found["loss.decoder_nll"] = DiffusionLMLosses(its_process, steps)(its_raw, exact)["rounding"].mean(-1)
    found["loss.e2e_kl"] = sum(term.mean(-1) for term in card.published(raw, x).values())
    return found


@torch.no_grad()
def chain(golden):
    process, _, steps = model(golden)
    z_0 = model(golden, torch.float64)[0].start(golden["input_ids"], golden["noise_x0"])
    t = times(golden["t"], steps)
    z_t = process.noised(z_0, t, golden["noise_xt"])
    found = {"x_start": z_0, "x_t": z_t}
    a_t, a_s = process.alpha(t), process.alpha(t - 1 / steps)
    mean, std = process.posterior(z_0, z_t, a_t, a_s)
    found["posterior.mean"], found["posterior.variance"] = mean, (std**2).flatten()
    floor = clipped(coefficients(process.schedule.levels[1:], process.schedule.levels[:-1])[2])
    found["posterior.log_variance_clipped"] = floor[golden["t"]]
    found["round.embeds"], found["logits.argmax"] = process.nearest(z_t), process.logits(z_t).argmax(-1)
    return found


THEIRS = {"mse": "mse", "decoder_nll": "rounding", "tT": "prior"}
"""The published names of the loss's terms."""


@torch.no_grad()
def steps_of_samplers(golden):
    process, net, total = model(golden)
    count = int(golden.config["respacing"])
    plan = Respaced(total)
    walk = torch.tensor([plan(k, count) for k in range(count, -1, -1)], dtype=torch.float64)
    index = golden["sample.t"]
    t, s = walk[index + 1][:, None], walk[index][:, None]
    z_t, found = chain(golden)["x_t"], {}
    raw = ask(net, z_t, t)
    for name, clamp in (("plain", 0.0), ("clamp", 1.0)):
        back, implicit = GaussianReverse(process, clamp=clamp), GaussianReverse(process, eta(golden), clamp)
        mean, std = back.moments(raw, z_t, t, s)
        found |= {f"sample.{name}.pred_xstart": back.estimate(raw, t), f"sample.{name}.mean": mean}
        found[f"sample.{name}.sample"] = mean + std * golden["sample.noise"]
        mean, std = implicit.moments(raw, z_t, t, s)
        found[f"ddim.{name}.sample"] = drawn(mean, std, golden["sample.noise"], golden[f"ddim.{name}.sample"])
    return found


def drawn(mean, std, noise, recorded):
    """mean + std * noise, every row's std the float32 number next to it where that is what was recorded.

    DDIM's std is a product of float32 roots, whose last bit is the processor's own.
    """
    here = std.float()
    beside = [torch.nextafter(here, torch.full_like(here, end)) for end in (-torch.inf, torch.inf)]
    tries = torch.stack([mean + one.to(std.dtype) * noise for one in (here, *beside)])
    nearest = (tries - recorded).abs().flatten(2).amax(-1).argmin(0)
    return tries[nearest, torch.arange(len(nearest))]


@pytest.mark.parametrize("part", [tables, chain, losses, steps_of_samplers])
def test_every_part_equals_the_published_one(golden, part):
    found = part(golden)
    assert found
    for name, got in found.items():
        golden.check(name, got.detach())


def test_every_output_of_the_recording_is_checked(golden):
    found = set(tables(golden)) | set(chain(golden)) | set(losses(golden)) | set(steps_of_samplers(golden))
    assert found == set(golden.outputs())


def test_gradients_of_all_three_terms_reach_the_embeddings(golden):
    x, raw, process, steps = noised(golden)
    for term in DiffusionLMLosses(process, steps)(raw, x).values():
        (slope,) = torch.autograd.grad(term.sum(), process.table, retain_graph=True)
        assert slope.abs().sum() > 0


def test_the_family_trains_on_the_sum(golden):
    x, raw, process, steps = noised(golden)
    objective = diffusion_lm(process, steps).objective
    total = weighed(objective.terms(raw, x), torch.ones_like(x.tokens, dtype=torch.bool)).total
    torch.testing.assert_close(total, golden["loss.total"].mean())
