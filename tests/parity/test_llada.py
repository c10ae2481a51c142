"""LLaDA's network, with and without grouped keys and a tied head."""

import pytest
import torch

from mezzotint.denoisers.published import open_published


@pytest.mark.golden("llada_gqa_tied")
@pytest.mark.golden("llada_dense")
@torch.no_grad()
def test_logits_and_residual_streams(golden):
    network = open_published(golden.folder).network
    taps = golden.names(r"forward\.hidden\.\d+")
    assert taps
    depths = tuple(range(len(taps) - 1))
    out = network.decoder(golden["in.tokens"], attend=torch.ones(1, 1, dtype=torch.bool), taps=depths)
    for depth, tap in zip(depths, out.taps, strict=True):
        golden.check(f"forward.hidden.{depth}", tap)
    golden.check(f"forward.hidden.{len(depths)}", out.hidden)
    golden.check("forward.logits", network(golden["in.tokens"]))
    valid = golden["forward_masked.attention_mask"].bool()
    golden.check("forward_masked.logits", network(golden["in.tokens"], attend=valid[:, None, None]))


@pytest.mark.golden("llada_gqa_tied")
@pytest.mark.golden("llada_dense")
def test_what_the_checkpoint_says(golden):
    model = open_published(golden.folder)
    assert model.mask_id == golden.meta["mask_id"]
    assert golden.meta["eos_id"] in model.stop_ids
    assert not model.shift
    assert model.block is None
    assert str(model.attention) == "full"
