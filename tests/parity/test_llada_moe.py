"""LLaDA-MoE's network: dense and expert layers mixed, a router whose bias stays in the weights."""

import pytest
import torch
from networks import close, streams

from mezzotint.denoisers.published.open import open_published


@pytest.mark.golden("llada_moe")
@torch.no_grad()
def test_logits_and_residual_streams(golden):
    model = open_published(golden.folder)
    assert model.family == "llada_moe"
    assert model.mask_id == golden.meta["mask_id"]
    streams(golden, model.network)
    close(golden, "forward.logits", model.network(golden["in.tokens"]))
