"""The small transformer sees exactly what its layout lets it see."""

import pytest
import torch

from mezzotint.denoisers.layers.fused_ops import rotate
from mezzotint.denoisers.networks.small_transformer import TransformerConfig, rates, turns
from mezzotint.errors import ConfigError
from mezzotint.layouts import BlockCausal, Full, Inputs, NoisyThenClean


def network(vocab=9):
    torch.manual_seed(0)
    net = TransformerConfig(width=32, layers=2, heads=2).build(vocab)
    torch.nn.init.normal_(net.head.weight)
    return net.eval()


def test_noisy_blocks_depend_on_themselves_and_the_clean_past_only():
    net, layout = network(), NoisyThenClean(4)
    x_t, x_0 = torch.randint(0, 9, (2, 1, 12), generator=torch.Generator().manual_seed(1))
    before = layout.extract(net(layout.arrange(x_t, x_0)))
    changed = x_0.clone()
    changed[:, 4:8] = (changed[:, 4:8] + 1) % 9
    after = layout.extract(net(layout.arrange(x_t, changed)))
    assert torch.equal(before[:, :8], after[:, :8])
    assert not torch.allclose(before[:, 8:], after[:, 8:])


def test_training_and_inference_masks_agree():
    net = network()
    x_t, x_0 = torch.randint(0, 9, (2, 1, 12), generator=torch.Generator().manual_seed(2))
    trained = NoisyThenClean(4).extract(net(NoisyThenClean(4).arrange(x_t, x_0)))
    seen = torch.cat([x_0[:, :4], x_t[:, 4:8]], 1)  # decoding block 1: a clean past and the noisy block
    decoded = net(BlockCausal(4).arrange(seen, seen))
    torch.testing.assert_close(decoded[:, 4:], trained[:, 4:8])


def test_only_relative_positions_matter():
    net = network()
    inputs = Full().arrange(torch.tensor([[1, 2, 3, 4]]), torch.tensor([[1, 2, 3, 4]]))
    shifted = Inputs(inputs.x, inputs.positions[None] + 17, inputs.attend)
    torch.testing.assert_close(net(inputs), net(shifted), atol=1e-4, rtol=1e-4)


def test_heads_that_do_not_divide_the_width_are_refused():
    with pytest.raises(ConfigError, match="take a multiple of 12"):
        TransformerConfig(width=32, heads=6).build(4)


@pytest.mark.parametrize("offset", [-3, -1, 0, 2])
def test_a_fresh_head_looks_at_its_offset(offset):
    """Tokens apart, a query's largest product is with the key at its offset."""
    shape = TransformerConfig(width=32, layers=1, heads=1, offsets=(offset,))
    (block,) = shape.build(9).blocks
    q, k, _ = block.qkv.bias.detach().expand(1, 1, 12, 96).chunk(3, -1)
    turn = turns(torch.arange(12), rates(32, shape.base))
    seen = (rotate(q, turn) @ rotate(k, turn).mT)[0, 0]
    middle = torch.arange(4, 8)
    assert torch.equal(seen[middle].argmax(-1), middle + offset)


def test_time_reaches_a_network_that_is_told_of_it():
    torch.manual_seed(0)
    net = TransformerConfig(width=32, layers=1, heads=2, timed=True).build(9)
    torch.nn.init.normal_(net.head.weight)
    torch.nn.init.normal_(net.time.outer.weight)
    inputs, t = Full().arrange(*torch.zeros(2, 2, 3, dtype=torch.long)), torch.tensor([[0.1], [0.9]])
    assert not torch.allclose(net(inputs, t)[0], net(inputs, t)[1])
    torch.testing.assert_close(net(inputs, t), net(inputs, t.expand(2, 3)))
    with pytest.raises(ConfigError, match="was given no time"):
        net(inputs)
