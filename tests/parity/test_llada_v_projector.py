"""LLaDA-V's projector, and images among text with padding on either side."""

import pytest
import torch

from mezzotint.denoisers.vision.llada_v_projector import merge, open_projector
from mezzotint.errors import RequestError


@pytest.fixture(scope="module")
def parts(golden):
    """The network and its features, tokens in row-major order as the reference flattens a map."""
    return open_projector(golden.folder), golden["in.image_feature_maps"].flatten(2).transpose(1, 2)


@pytest.mark.golden("llada_v_projector")
@torch.no_grad()
def test_projected_features(golden, parts):
    network, features = parts
    golden.check("projected", network(features), **within(golden))


@pytest.mark.golden("llada_v_projector")
@pytest.mark.parametrize("side", ["left", "right"])
@torch.no_grad()
def test_images_stand_where_their_placeholders_stood(golden, parts, side):
    network, features = parts
    valid = golden["in.attention_mask"].bool()
    tokens, labels = golden["in.input_ids"], golden["in.labels"]
    got = merge(tokens, valid, network(features), network.embed, labels, left=side == "left")
    golden.check(f"merge_{side}.inputs_embeds", got.embeds, **within(golden))
    golden.check(f"merge_{side}.attention_mask", got.valid)
    golden.check(f"merge_{side}.labels", got.labels)


@pytest.mark.golden("llada_v_projector")
@torch.no_grad()
def test_every_row_is_merged(golden, parts):
    """The reference drops all rows but the first unless it is told a modality for each; that first row is ours."""
    network, features = parts
    valid, tokens = golden["in.attention_mask"][:1].bool(), golden["in.input_ids"][:1]
    count = int((tokens[valid] < 0).sum())
    first = merge(tokens, valid, network(features[:count]), network.embed)
    golden.check("merge_default_modalities.inputs_embeds", first.embeds, **within(golden))
    with pytest.raises(RequestError, match="images"):
        merge(tokens, valid, network(features), network.embed)


def within(golden):
    return {"atol": golden.meta["tolerance"]["float"]}
