"""Small random networks that see everything, or blocks, or predict from the column before."""

import torch

from mezzotint.decode.run import MaskedModel
from mezzotint.denoisers.networks.small_transformer import TransformerConfig

VOCAB, MASK, STOP = 23, 22, 5


class Shifted(torch.nn.Module):
    """The same network, said to predict a column from the one before it."""

    lookback = 1

    def __init__(self, network):
        super().__init__()
        self.network = network

    def hidden(self, inputs, t):
        return self.network.hidden(inputs, t)

    def head(self, h):
        return self.network.head(h)

    def memory(self, rows, columns):
        return self.network.memory(rows, columns)


class Counted:
    """A memory that only knows how much was read."""

    length = 0

    def truncate(self, length):
        self.length = length


class Told(torch.nn.Module):
    """A network whose logits are a table of positions."""

    def __init__(self, table, lookback=0):
        super().__init__()
        self.table, self.lookback = table, lookback

    def hidden(self, inputs, t):
        if inputs.memory is not None:
            inputs.memory.length += inputs.x.shape[1]
        return self.table[inputs.positions]

    def head(self, h):
        return h

    def memory(self, rows, columns):
        return Counted()


def model(block=None, shifted=False, stop=(STOP,), seed=3, layers=2):
    """A model whose logits are far apart, so that rounding decides nothing."""
    torch.manual_seed(seed)
    network = TransformerConfig(width=32, layers=layers, heads=2).build(VOCAB)
    torch.nn.init.normal_(network.head.weight, std=0.5)
    network.requires_grad_(False)
    return MaskedModel(Shifted(network) if shifted else network, MASK, VOCAB, stop, block)
