"""Networks for texts of changing length see the tokens, not where blanks lie between them."""

import pytest
import torch

from mezzotint.denoisers.networks.dit import DiTConfig
from mezzotint.denoisers.networks.edit_heads import EditHeads, GapHeads
from mezzotint.denoisers.networks.small_transformer import TransformerConfig
from mezzotint.layouts import Attend, Inputs

VOCAB = 6
TRUNKS = {
    "transformer": lambda: TransformerConfig(width=16, layers=2, heads=2, timed=True).build(VOCAB + 1),
    "dit": lambda: DiTConfig(width=16, layers=2, heads=2, condition=8, dropout=0.0).build(VOCAB + 1, lambda t: t),
}


def read(net, rows, t=0.5):
    x = torch.tensor(rows)
    return net(Inputs(x, torch.arange(x.shape[1]), Attend(x.shape[1], x.shape[1])), torch.full((len(x), 1), t))


@pytest.fixture(params=TRUNKS)
def trunk(request):
    torch.manual_seed(0)
    trunk = TRUNKS[request.param]()
    for parameter in trunk.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return trunk


@pytest.mark.parametrize(("heads", "out"), [(EditHeads, 3 + 2 * VOCAB), (GapHeads, VOCAB + 1)])
def test_blanks_between_tokens_change_nothing(trunk, heads, out):
    net = heads(trunk, 16, VOCAB).eval()
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    packed, spread = read(net, [[VOCAB, 1, 2, VOCAB, VOCAB]]), read(net, [[VOCAB, VOCAB, 1, VOCAB, 2]])
    assert packed.shape == (1, 5, out)
    torch.testing.assert_close(packed[:, [0, 1, 2]], spread[:, [0, 2, 4]])
    other, later = read(net, [[VOCAB, 1, 3, VOCAB, VOCAB]]), read(net, [[VOCAB, 1, 2, VOCAB, VOCAB]], t=0.9)
    assert not torch.allclose(packed[:, 0], other[:, 0])
    assert not torch.allclose(packed[:, 0], later[:, 0])
