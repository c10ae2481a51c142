"""LLaDA's network, with and without grouped keys and a tied head."""

import pytest
import torch
from networks import close, streams

from mezzotint.denoisers.published.open import open_published


@pytest.mark.golden("llada_gqa_tied")
@pytest.mark.golden("llada_dense")
@torch.no_grad()
def test_logits_and_residual_streams(golden):
    network = open_published(golden.folder).network
    streams(golden, network)
    close(golden, "forward.logits", network(golden["in.tokens"]))
    valid = golden["forward_masked.attention_mask"].bool()
    close(golden, "forward_masked.logits", network(golden["in.tokens"], attend=valid[:, None, None]))


@pytest.mark.golden("llada_gqa_tied")
@pytest.mark.golden("llada_dense")
def test_what_the_checkpoint_says(golden):
    model = open_published(golden.folder)
    assert model.mask_id == golden.meta["mask_id"]
    assert golden.meta["eos_id"] in model.stop_ids
    assert not model.shift
    assert model.block is None
    assert str(model.attention) == "full"
