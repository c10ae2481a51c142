"""WeDLM's network: causal in the order of reading, positions as given."""

import pytest
import torch
from networks import close

from mezzotint.denoisers.published.open import open_published


@pytest.mark.golden("wedlm")
@torch.no_grad()
def test_causal_logits_with_permuted_positions(golden):
    model = open_published(golden.folder)
    assert not model.shift
    assert (model.mask_id, model.pad_id) == (golden.meta["mask_id"], golden.meta["pad_id"])
    close(golden, "forward.logits", model.network(golden["in.tokens"], golden["in.position_ids"]))
