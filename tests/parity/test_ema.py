"""Averaged weights are those of MDLM's code, update by update, and travel in its form."""

import pytest
import torch
from given import ticked

from mezzotint.errors import CheckpointError
from mezzotint.train.ema import Average


@pytest.fixture
def averages(golden):
    parameters = {name.split(".")[1]: torch.nn.Parameter(golden[name].clone()) for name in golden.names(r"init\.\d+")}
    trained = {str(index) for index in golden.config["shadow_order"]}
    return Average({name: p for name, p in parameters.items() if name in trained}, golden.config["decay"])


@pytest.mark.golden("ema")
def test_every_update_and_the_published_state(golden, averages):
    outputs = {}
    for step in range(1, golden.config["updates"] + 1):
        for name, parameter in averages.parameters.items():
            parameter.data.copy_(golden[f"step{step}.param{name}"])
        averages.update()
        shadow = averages.published()["shadow_params"]
        outputs |= {f"step{step}.shadow{place}": value.clone() for place, value in enumerate(shadow)}
    assert ticked(golden, outputs) == sorted(golden.outputs())
    assert list(averages.published()) == golden.config["state_keys"]
    assert averages.published()["num_updates"] == golden.config["num_updates"]


@pytest.mark.golden("ema")
def test_a_published_state_is_gone_on_from(golden, averages):
    averages.update()
    state = averages.published()
    other = Average(averages.parameters, 0.5)
    other.adopt({**state, "shadow_params": [value + 1 for value in state["shadow_params"]]})
    assert other.updates == 1
    assert other.decay == golden.config["decay"]
    for name, value in averages.weights.items():
        torch.testing.assert_close(other.weights[name], value + 1)
    with pytest.raises(CheckpointError, match="cannot read 1 averaged parameters into a network with"):
        other.adopt({**state, "shadow_params": state["shadow_params"][:1]})
