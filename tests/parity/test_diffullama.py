"""DiffuLLaMA's and DiffuGPT's networks on the way from causal to full attention, logits one column early."""

import pytest
import torch
from given import Uniforms
from networks import close

from mezzotint.denoisers.published.attention_patterns import AnnealedPattern, dense
from mezzotint.denoisers.published.identify import Overrides
from mezzotint.denoisers.published.open import open_published


@pytest.mark.golden("diffugpt")
@pytest.mark.golden("diffullama")
@torch.no_grad()
def test_logits_under_annealed_masks(golden):
    """The reference draws the pairs beyond the causal ones from torch's generator with a recorded seed."""
    model, tokens = opened(golden), golden["in.tokens"]
    length, device = tokens.shape[1], tokens.device
    shares = [name.removesuffix(".visible") for name in golden.names(r"anneal_.*\.visible")]
    assert shares
    for share in shares:
        torch.manual_seed(golden.meta["anneal_torch_seed"])
        draws = Uniforms(torch.rand(length, length))
        seen = dense(AnnealedPattern.drawn(length, float(share.removeprefix("anneal_")), draws), length, 0, device)
        golden.check(f"{share}.visible", seen[0, 0])
        close(golden, f"{share}.logits", model.network.raw(tokens, attend=seen))


@pytest.mark.golden("diffugpt")
@pytest.mark.golden("diffullama")
@torch.no_grad()
def test_the_shift_gives_each_column_the_row_before_it(golden):
    model, tokens = opened(golden), golden["in.tokens"]
    assert model.shift
    best = model.network(tokens).argmax(-1)
    golden.check("shifted.argmax", torch.cat([tokens[:, :1], best[:, 1:]], 1))


def opened(golden):
    family = {"DiffuLLaMA": "diffullama"}.get(golden.meta["family"])
    return open_published(golden.folder, given=Overrides(family=family, mask_id=golden.meta["mask_id"]))
