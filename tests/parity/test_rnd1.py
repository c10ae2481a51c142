"""RND1's network: Qwen3's experts without the causal mask, logits one column early."""

import pytest
import torch
from networks import close

from mezzotint.denoisers.published.open import EVERYTHING, open_published


@pytest.mark.golden("rnd1")
@torch.no_grad()
def test_logits_and_layer_outputs(golden):
    model, tokens = open_published(golden.folder), golden["in.tokens"]
    assert model.shift
    assert (model.mask_id, model.pad_id) == (golden.meta["mask_id"], golden.meta["pad_id"])
    names = golden.names(r"forward\.layer_output\.\d+")
    assert names
    out = model.network.decoder(tokens, attend=EVERYTHING, taps=tuple(range(1, len(names) + 1)))
    for depth, tap in enumerate(out.taps):
        close(golden, f"forward.layer_output.{depth}", tap)
    close(golden, "forward.logits", model.network.raw(tokens))
    torch.testing.assert_close(model.network(tokens)[:, 1:], model.network.raw(tokens)[:, :-1])
