"""Duo's losses, samplers, curriculum and distillation against recordings of its published code."""

import re

import pytest
import torch
from safetensors.torch import load_file

from mezzotint.decode.samplers.psi_samplers import Kappa, Profile
from mezzotint.denoisers.networks.dit import DiTConfig, plain
from mezzotint.families import duo
from mezzotint.families.base import log_p
from mezzotint.objectives.duo import Consistency, Curriculum, at_levels
from mezzotint.processes.gaussian_argmax import GaussianArgmax
from mezzotint.processes.uniform import Uniform
from mezzotint.schedules import Linear, total_noise

KAPPAS = {
    "pure-posterior": "posterior",
    "constant": "constant",
    "max-capped": "capped",
    "max-rescale": "rescaled",
    "constant-remdm": "remasking",
}


def kappa_of(name):
    """The published name of a kind, with its number behind it."""
    if name == "pure-pc":
        return Kappa(kind="constant", eta=0)
    kind, eta = re.fullmatch(r"(.*?)(?:-([\d.]+))?", name).groups()
    return Kappa(kind=KAPPAS[kind], **({} if eta is None else {"eta": float(eta)}))


def parts(golden):
    schedule = Linear(eps=golden.config["eps"])
    return schedule, Uniform(golden.config["vocab_size"], schedule)


def fixed(golden):
    """What is derived from fixed logits."""
    schedule, process = parts(golden)
    raw, x_0, x_t, t = golden["logits"], golden["x0"], golden["xt"], golden["t"][:, None]
    loss = duo.nelbo(process)
    a, da = 1 - 0.7 * t, torch.full_like(t, -0.7)
    back, later, end = duo.PsiStep(process), t - golden.config["dt"], torch.zeros_like(t)
    out = {
        "alpha": schedule.alpha(golden["t"]),
        "dalpha": schedule.dalpha(golden["t"]),
        "nll_per_token": at_levels(loss, schedule)(raw, x_0, x_t, t),
        "nll_per_token.alpha_0.7": loss(raw, x_0, x_t, a, da),
        "posterior": back.chances(raw, x_t, t, golden["s"][:, None]),
        "ancestral.probs": back.chances(raw, x_t, t, later),
        "ancestral.noise_removal_probs": back.chances(raw, x_t, t, end),
    }
    for name in golden.names(r"ancestral\.nucleus[\d.]+\.probs"):
        mass = float(re.search(r"nucleus([\d.]+)\.", name)[1])
        out[name] = duo.PsiStep(process, mass=mass).chances(raw, x_t, t, later)
    for kappa in golden.config["kappas"]:
        psi = duo.PsiStep(process, Kappa(kind="constant", eta=kappa))
        out[f"psi.kappa{kappa}.probs"] = psi.chances(raw, x_t, t, later)
    return out


def kappas(golden):
    """kappa on grids of times; behind the last time the text is clean."""
    schedule, _ = parts(golden)

    def on(times):
        return schedule.alpha(times), torch.cat([schedule.alpha(times[1:]), torch.ones(1, dtype=torch.float64)])

    out = {}
    for name in golden.names(r"kappas\..*"):
        grid = torch.linspace(1, 1e-5, len(golden[name]), dtype=torch.float64)
        out[name] = kappa_of(name.removeprefix("kappas."))(*on(grid))
    profile, steps = Profile(), len(golden["psi.time_profile"]) - 1
    times = out["psi.time_profile"] = profile.times(steps)
    a_t, a_s = on(times)
    each = [profile.kappa(k, steps)(a_t[k : k + 1], a_s[k : k + 1]) for k in range(steps + 1)]
    out["psi.kappas_profile"] = torch.cat(each)
    return out


@torch.no_grad()
def learned(golden):
    """Curriculum, bound and distillation with the recorded network."""
    config, (schedule, process) = golden.config, parts(golden)
    names = {"width": "hidden_size", "layers": "n_blocks", "heads": "n_heads", "condition": "cond_dim"}
    shape = DiTConfig(**{ours: config[theirs] for ours, theirs in names.items()}, dropout=0.0)
    network = shape.build(config["vocab_size"], lambda t: total_noise(schedule, t))
    network.load_state_dict(load_file(golden.folder / "model.safetensors"), strict=True)
    network.eval()
    levels = config["curriculum"]
    twin = GaussianArgmax(process.ids, levels["gamma_min"], levels["gamma_max"])
    x_0, t, noise = golden["x0"], golden["curriculum.t"][:, None], golden["curriculum.epsilon"]
    target = torch.ones_like(x_0, dtype=torch.bool)
    w = twin.blur(x_0, t, noise)
    out = {
        "curriculum.gamma": twin.gamma(t)[:, 0],
        "curriculum.xt": w.argmax(-1),
        "curriculum.alpha": twin.alpha(t),
        "curriculum.dalpha": twin.dalpha(t),
    }
    for power in levels["tau_log10"]:
        seen = {}

        def watched(inputs, t, seen=seen):
            seen["raw"] = network(inputs, t)
            return seen["raw"]

        lesson = Curriculum(twin, schedule, duo.nelbo(process), watched, 1, 10**power)
        case = f"curriculum.tau1e{int(power)}"
        out[f"{case}.loss"] = lesson.nats(watched, x_0, t, noise, target)
        out[f"{case}.log_x_theta"] = log_p(seen["raw"])
    t = golden["t"][:, None].float()
    raw = network(plain(golden["xt"]), t)
    out["nelbo.log_x_theta"] = log_p(raw)
    out["nelbo.loss"] = at_levels(duo.nelbo(process), schedule)(raw, x_0, golden["xt"], t)
    t = golden["curriculum.t"][:, None]
    for direction in ("forward", "backward"):
        round = Consistency(twin, schedule, log_p, network, 1 / 512, direction)
        short = {"forward": "fwd", "backward": "bwd"}[direction]
        out[f"distillation.kl-{short}"] = round.nats(network, x_0, t, noise, target)
    return out


def derive(golden):
    """Every output of the folder by its name."""
    return fixed(golden) | kappas(golden) | learned(golden)


@pytest.mark.golden("duo")
def test_every_recorded_output_is_reproduced(golden):
    found = derive(golden)
    assert set(golden.outputs()) == set(found)
    for name, value in found.items():
        golden.check(name, value)
