"""The small transformer sees exactly what its layout lets it see."""

import pytest
import torch

from mezzotint.denoisers.transformer import TransformerConfig
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
