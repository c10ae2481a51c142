"""SDAR's networks, dense and with experts: block-causal, no shift."""

import pytest
import torch
from networks import close, streams

from mezzotint.denoisers.published.attention_patterns import dense
from mezzotint.denoisers.published.open import open_published


@pytest.mark.golden("sdar_moe")
@pytest.mark.golden("sdar")
@torch.no_grad()
def test_block_causal_logits(golden):
    model, tokens = open_published(golden.folder), golden["in.tokens"]
    assert model.block == golden.meta["block_length"]
    assert model.mask_id == golden.meta["mask_id"]
    seen = dense(model.attention, tokens.shape[1], 0, tokens.device)
    golden.check("forward.attention_mask", seen[0])
    streams(golden, model.network, seen)
    close(golden, "forward.logits", model.network(tokens))


@pytest.mark.golden("sdar_moe")
@pytest.mark.golden("sdar")
@torch.no_grad()
def test_block_by_block_with_a_cache_equals_one_pass(golden):
    model, tokens = open_published(golden.folder), golden["in.tokens"]
    cache = model.cache(*tokens.shape)
    rows = [model.network(piece, cache=cache) for piece in tokens.split(model.block, 1)]
    assert len(rows) > 1
    close(golden, "forward.logits", torch.cat(rows, 1))
