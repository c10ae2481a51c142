"""Dream's network: full attention, and logits one column early."""

import pytest
import torch
from networks import close, streams

from mezzotint.denoisers.published.open import open_published


@pytest.mark.golden("dream")
@torch.no_grad()
def test_raw_and_shifted_logits(golden):
    model = open_published(golden.folder)
    assert model.shift
    assert (model.mask_id, model.pad_id) == (golden.meta["mask_id"], golden.meta["pad_id"])
    streams(golden, model.network)
    close(golden, "forward.logits", model.network.raw(golden["in.tokens"]))
    close(golden, "forward.shifted_logits", model.network(golden["in.tokens"]))
