"""LLaDA2's network: fused q, k, v, half of each head turning, experts in groups."""

import pytest
import torch
from networks import close, streams

from mezzotint.denoisers.published.attention_patterns import dense
from mezzotint.denoisers.published.identify import Overrides
from mezzotint.denoisers.published.open import EVERYTHING, open_published


def opened(golden):
    return open_published(
        golden.folder, given=Overrides(mask_id=golden.meta["mask_id"], block=golden.meta["block_length"])
    )


@pytest.mark.golden("llada2_moe")
@torch.no_grad()
def test_block_causal_and_full_logits(golden):
    model, tokens = opened(golden), golden["in.tokens"]
    seen = dense(model.attention, tokens.shape[1], 0, tokens.device)
    golden.check("forward.attention_mask", seen[0])
    streams(golden, model.network, seen)
    close(golden, "forward.logits", model.network(tokens))
    close(golden, "forward_full.logits", model.network(tokens, attend=EVERYTHING))


@pytest.mark.golden("llada2_moe")
@torch.no_grad()
def test_routers_choose_and_weigh_as_recorded(golden):
    model = opened(golden)
    routed = []
    for layer in model.network.decoder.layers:
        if layer.experts is not None:
            layer.experts.register_forward_hook(
                lambda experts, args, out: routed.append(experts.route(args[0].flatten(0, 1)))
            )
    model.network(golden["in.tokens"])
    names = golden.names(r"forward\.router\.\d+\.experts")
    assert len(names) == len(routed) > 0
    for depth, (index, weight) in enumerate(routed):
        order = index.argsort(-1)
        golden.check(f"forward.router.{depth}.experts", index.gather(-1, order))
        close(golden, f"forward.router.{depth}.weights", weight.gather(-1, order))
