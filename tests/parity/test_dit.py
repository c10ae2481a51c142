"""The DiT computes what the networks of MDLM, SEDD and guided UDLM compute, from weights under their own names."""

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from mezzotint.denoisers.networks.dit import DiT, DiTClassifier, DiTConfig, plain
from mezzotint.denoisers.networks.small_transformer import sinusoids
from mezzotint.processes.score_parameterisation import Scaled, present
from mezzotint.processes.subs import subs
from mezzotint.schedules import Exponential


def identity(t):
    return t


def shape(config, **changes):
    names = {"width": "hidden_size", "layers": "n_blocks", "heads": "n_heads", "condition": "cond_dim"}
    return DiTConfig(**({ours: config[theirs] for ours, theirs in names.items()} | {"dropout": 0.0} | changes))


def loaded(network, file):
    """The network with published weights: every name must have its place."""
    network.load_state_dict(load_file(file), strict=True)
    return network.eval()


def tell(golden, case, got):
    """Check the tensors of one case and return their full names."""
    names = [f"{case}{name}" for name in got]
    for name, value in zip(names, got.values(), strict=True):
        golden.check(name, value)
    return names


def states(network, inputs, t):
    c = network.condition(t, inputs)
    found = network.states(inputs, c)[1:]
    return c[:, 0], {f"block{depth}": h for depth, h in enumerate(found)}


@pytest.mark.golden("mdlm_dit")
@torch.no_grad()
def test_the_network_of_mdlm(golden):
    config, sigma = golden.config, golden["sigma"][:, None]
    settings = shape(config, expansion=config["mlp_ratio"])
    inputs, checked = plain(golden["xt"]), []
    for case, level, told in (("cond.", identity, sigma), ("uncond.", None, torch.zeros_like(sigma))):
        network = loaded(settings.build(config["vocab_size"], level), golden.folder / "model.safetensors")
        c, blocks = states(network, inputs, sigma)
        logits = network(inputs, sigma)
        outputs = {
            "timestep_embedding": sinusoids(told[:, 0], config["frequency_embedding_size"]),
            "c": c,
            **blocks,
            "logits": logits,
            "subs": subs(logits, golden["xt"], config["mask_index"]),
        }
        checked += tell(golden, case, outputs)
    assert sorted(checked) == sorted(golden.outputs())


@pytest.mark.golden("sedd_net_absorb", "sedd_net_uniform")
@torch.no_grad()
def test_the_network_of_sedd(golden):
    config, sigma, inputs = golden.config, golden["sigma"][:, None], plain(golden["x"])
    vocab = config["tokens"] + (config["graph"]["type"] == "absorb")
    network = loaded(shape(config["model"]).build(vocab, identity), golden.folder / "model.safetensors")
    # here sigma itself is the time
    reading = Scaled(Exponential(low=0, high=1)) if config["model"]["scale_by_sigma"] else present
    scores = reading(network(inputs, sigma), golden["x"], sigma)
    outputs = {**states(network, inputs, sigma)[1], "log_score": scores}
    assert sorted(tell(golden, "", outputs)) == sorted(golden.outputs())


@pytest.mark.golden("udlm_dit")
def test_the_networks_of_guided_udlm(golden):
    config, sigma, x = golden.config, golden["sigma"][:, None], golden["x"]
    settings = shape(config, classes=config["num_classes"])
    network = loaded(settings.build(config["vocab_size"], identity), golden.folder / "model.safetensors")
    inputs, labels = plain(x), {"cond": golden["class"], "null": torch.full_like(golden["class"], settings.classes)}
    outputs = {"none.logits": network(inputs, sigma)}
    for case, label in labels.items():
        inputs.label = label
        outputs[f"{case}.logits"] = network(inputs, sigma)

    small = shape(config, classes=config["num_classes"], layers=config["classifier_blocks"])
    judge = loaded(DiTClassifier(small, config["vocab_size"], identity), golden.folder / "classifier.safetensors")
    soft = F.one_hot(x, config["vocab_size"]).float().requires_grad_()
    from_soft = judge(plain(soft), sigma)
    chosen = from_soft.log_softmax(-1).gather(-1, golden["class"][:, None]).sum()
    outputs |= {
        "classifier.logits": judge(plain(x), sigma),
        "classifier.onehot_logits": from_soft,
        "classifier.onehot_grad": torch.autograd.grad(chosen, soft)[0],
    }
    assert sorted(tell(golden, "", outputs)) == sorted(golden.outputs())


def test_the_time_of_a_column_may_be_its_own():
    torch.manual_seed(0)
    network = DiT(DiTConfig(width=16, layers=2, heads=2, condition=8, dropout=0.0), 7, identity).eval()
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    inputs, t = plain(torch.randint(0, 7, (2, 5))), torch.tensor([[0.3], [0.8]])
    torch.testing.assert_close(network(inputs, t), network(inputs, t.expand(2, 5)))
    assert not torch.allclose(network(inputs, t), network(inputs, t.flip(0)))
