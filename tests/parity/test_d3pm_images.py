"""D3PM's transition_matrices, posteriors and bounds are those of the published image code.

Symbols of a picture are columns of a text here.  Its time t is our step t + 1, its losses are bits per symbol.
"""

import math
import re

import pytest
import torch

from mezzotint.families.d3pm import HybridLoss
from mezzotint.processes.markov import beta_schedules, transition_matrices
from mezzotint.processes.markov.chain import ListedChain, Mixing, mask, survival
from mezzotint.processes.markov.process import Chained

pytestmark = pytest.mark.golden("d3pm_images")
CHAINS = ("uniform", "band", "gaussian", "gaussian_band", "absorbing")


def about(golden, name):
    return golden.meta["tensors"][name]["meaning"]


def numbers(text):
    """The settings that a description names: 'start': 0.02, (schedule cosine, bands 3)."""
    found = {key: float(value) for key, value in re.findall(r"'(\w+)': ([\d.e-]+)", text)}
    return found | {key: value for key, value in re.findall(r"(schedule|bands) (\w+)", text)}


def table(golden, name):
    told = numbers(about(golden, f"betas.{name}"))
    kind, total = name.partition("_")[0], int(told["num_timesteps"])
    return {
        "linear": lambda: beta_schedules.linear(total, told["start"], told["stop"]),
        "cosine": lambda: beta_schedules.cosine(total),
        "jsd": lambda: beta_schedules.standard(total),
    }[kind]()


def chain(golden, name):
    size = golden.config["K"]
    told = numbers(about(golden, f"{name}.Q"))
    beta = table(golden, told["schedule"])
    reach = None if told["bands"] == "None" else int(told["bands"])
    if name == "absorbing":
        return Mixing(survival(beta), mask(size, size // 2))
    if name.startswith("gaussian"):
        return ListedChain(transition_matrices.gaussian(size, beta, 255 / (size - 1), reach))
    return ListedChain(transition_matrices.bounded(size, beta, reach))


def kept_steps(golden, name):
    return sorted(int(re.findall(r"\d+", found)[0]) for found in golden.names(rf"{name}\.t\d+\.x_t"))


def test_tables(golden):
    names = [name.partition(".")[2] for name in golden.names(r"betas\..*")]
    assert names
    for name in names:
        golden.check(f"betas.{name}", table(golden, name))


@pytest.mark.parametrize("name", CHAINS)
def test_matrices(golden, name):
    made = chain(golden, name)
    times = [int(t) for t in re.findall(r"\d+", about(golden, f"{name}.Q").partition("]")[0])]
    golden.check(f"{name}.Q", torch.stack([made.matrix(t, t + 1) for t in times]))
    golden.check(f"{name}.Qbar", torch.stack([made.matrix(0, t + 1) for t in times]))


def test_rows_of_a_large_gaussian_chain(golden):
    config = golden.config
    total = config["gaussian256_T"]
    made = ListedChain(transition_matrices.gaussian(256, beta_schedules.linear(total, 1e-4, 0.02), 1.0))
    rows, times = config["gaussian256_rows"], config["gaussian256_times"]
    golden.check("gaussian256.Q_rows", torch.stack([made.matrix(t, t + 1)[rows] for t in times]))
    golden.check("gaussian256.Qbar_rows", torch.stack([made.matrix(0, t + 1)[rows] for t in times]))


@pytest.mark.parametrize("name", CHAINS)
def test_posteriors_and_bounds(golden, name):
    process = Chained(chain(golden, name), golden.config["eps"])
    shape = golden["x_start"].shape
    x_0, raw = golden["x_start"].flatten(1), golden["x_start_logits"].flatten(1, -2)
    loss = HybridLoss(process, golden.config["hybrid_coeff"], direct=True)

    def bits(nats):
        return nats.mean(-1) / math.log(2)

    for step in kept_steps(golden, name):
        at, total = f"{name}.t{step}.", process.chain.steps
        x_t = golden[at + "x_t"].flatten(1)
        t = torch.full((len(x_0), 1), (step + 1) / total, dtype=torch.float64)
        s = t - 1 / total
        golden.check(at + "q_probs", process.chain.after(x_0, process.index(t)).reshape(*shape, -1))
        true = process.back(process.clean(x_0, torch.float64), x_t, s, t)
        model = process.back(raw.softmax(-1), x_t, s, t)
        if step == 0:
            # at its end the published code shows the clean symbols, and the network's own logits, without x_1
            true, model = (process.clean(x_0, torch.float64) + process.floor).log(), raw
        golden.check(at + "true_posterior_logits", true.reshape(*shape, -1))
        golden.check(at + "model_posterior_logits", model.reshape(*shape, -1))
        golden.check(at + "vb_bits", bits(loss.step(raw, x_0, x_t, t)))
        golden.check(at + "ce_bits", bits(loss.cross_entropy(raw, x_0)))
        golden.check(at + "hybrid_bits", bits(loss(raw, x_0, x_t, t)))
    golden.check(f"{name}.prior_bits", bits(process.missed(x_0)))


def test_nothing_in_the_folder_is_left_out(golden):
    parts = ("q_probs", "true_posterior_logits", "model_posterior_logits", "vb_bits", "ce_bits", "hybrid_bits")
    own = set(golden.names(r"betas\..*")) | {"gaussian256.Q_rows", "gaussian256.Qbar_rows"}
    for name in CHAINS:
        own |= {f"{name}.{part}" for part in ("Q", "Qbar", "prior_bits")}
        own |= {f"{name}.t{t}.{part}" for t in kept_steps(golden, name) for part in parts}
    assert set(golden.outputs()) == own
