"""MMaDA's network is LLaDA's over text and image ids."""

import pytest
import torch
from networks import close

from mezzotint.denoisers.published.open import open_published


@pytest.mark.golden("mmada_t2i")
@torch.no_grad()
def test_logits_with_and_without_padding(golden):
    model, tokens = open_published(golden.folder), golden["in.input_ids"]
    assert model.family == "mmada"
    assert model.mask_id == golden.meta["mask_id"]
    valid = golden["in.attention_mask"].bool()
    close(golden, "forward_no_mask.logits", model.network(tokens))
    close(golden, "forward.logits", model.network(tokens, attend=valid[:, None, None]), where=valid)
