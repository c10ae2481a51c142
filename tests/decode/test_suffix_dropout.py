"""Masks behind the window that are not read."""

import pytest
import torch
from tiny_reader import model

from mezzotint.decode.caches.policies import CacheStore
from mezzotint.decode.caches.suffix_dropout import SuffixDropout
from mezzotint.decode.methods.choices import ThinnedSuffix, Threshold
from mezzotint.decode.methods.presets import Preset, decoding
from mezzotint.decode.plan import Blocks
from mezzotint.decode.run import generate, lay_out

PROMPTS = [[1, 2, 3, 4, 6, 7, 8], [9, 10]]


def made(net, cache=None, **changes):
    how = Preset(choose=Threshold(tau=0.4), block=4, halt=False, **({"cache": cache} if cache else {}), **changes)
    return generate(net, PROMPTS, 20, decoding(how, net, 20))


@pytest.mark.parametrize("shifted", [False, True])
def test_12_a_suffix_that_is_read_whole_is_no_dropout(shifted):
    net = model(shifted=shifted)
    whole = made(net, ThinnedSuffix(reach=100, sigma=0.0, scale=10.0))
    plain = made(net)
    assert torch.equal(whole.canvas.tokens, plain.canvas.tokens)
    assert whole.reads == plain.reads


def test_what_is_read_shrinks_and_stays_the_same_within_a_window():
    thin = made(model(), ThinnedSuffix(reach=16, sigma=4.0, scale=1.0))
    none = made(model(), ThinnedSuffix(reach=0))
    assert thin.passes > 5
    assert sum(none.reads) / none.passes < sum(thin.reads) / thin.passes < 27
    assert sorted(set(none.reads)) == [11, 15, 19, 23, 27]
    # as many different widths as windows: a window's columns are drawn once
    assert len(set(thin.reads)) <= 5


def test_near_columns_are_read_as_often_as_the_curve_says():
    canvas, _ = lay_out(model(), [[1]], 40)
    step = next(Blocks(4)(canvas))
    counts = torch.zeros(41)
    for seed in range(2000):
        store = CacheStore(None, torch.zeros(1, 0, dtype=torch.long))
        (read,) = SuffixDropout(reach=21, sigma=2.0, scale=2.0, seed=seed)(store, canvas, step)
        counts[read.columns[0]] += 1
    share = counts[5:] / 2000
    x = torch.linspace(0, 2, 21)
    density = torch.distributions.Normal(0.0, 1.0).log_prob(x).exp()
    torch.testing.assert_close(share[:21], 2 * density, atol=0.04, rtol=0)
    assert share[21:].sum() == 0
    assert (counts[:5] == 2000).all()
