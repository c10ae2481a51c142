"""The many ways in which the same published weights are stored, and the types they take in memory."""

import json

import pytest
import torch
from released import GOLDEN, copied, opened, rewritten, set_field
from safetensors.torch import load_file, save_file

from mezzotint.checkpoints.folder import open_published as open_folder
from mezzotint.denoisers.published.fill_weights import TensorForm
from mezzotint.denoisers.published.identify import read_facts
from mezzotint.errors import CheckpointError


@pytest.fixture
def folder(request, tmp_path):
    """A copy of a recorded folder that a test may damage."""
    return copied(request.param, tmp_path)


@pytest.mark.parametrize("folder", ["llada_dense"], indirect=True)
def test_shards_and_their_index(folder):
    tensors = load_file(folder / "model.safetensors")
    want = opened(folder).network(torch.arange(8)[None])
    names = sorted(tensors)
    parts = {"model-00001-of-00002.safetensors": names[::2], "model-00002-of-00002.safetensors": names[1::2]}
    for file, inside in parts.items():
        save_file({name: tensors[name] for name in inside}, folder / file)
    (folder / "model.safetensors").unlink()
    placed = {name: file for file, inside in parts.items() for name in inside}
    size = sum(x.numel() * 4 for x in tensors.values())

    def index(size, placed):
        document = {"metadata": {"total_size": size}, "weight_map": placed}
        (folder / "model.safetensors.index.json").write_text(json.dumps(document))

    index(size, placed)
    torch.testing.assert_close(opened(folder).network(torch.arange(8)[None]), want)
    index(size + 1, placed)
    with pytest.raises(CheckpointError, match=r"index\.json promises"):
        opened(folder)
    index(size, {name: file for name, file in placed.items() if name != names[0]})
    with pytest.raises(CheckpointError, match=f"00001-of-00002.safetensors holds {names[0]}"):
        opened(folder)


@pytest.mark.parametrize("folder", ["llada_gqa_tied"], indirect=True)
def test_a_tied_head_may_be_stored_twice_if_it_is_the_same(folder):
    embed, head = "model.transformer.wte.weight", "model.transformer.ff_out.weight"
    rewritten(folder, lambda tensors: tensors.update({head: tensors[embed].clone()}))
    network = opened(folder).network
    assert network.decoder.head.weight is network.decoder.embed.weight
    rewritten(folder, lambda tensors: tensors[head].add_(1))
    with pytest.raises(CheckpointError, match=f"{head} although the configuration ties it"):
        opened(folder)
    set_field(folder, weight_tying=False)
    assert opened(folder).network.decoder.head.weight is not network.decoder.embed.weight


@pytest.mark.parametrize("folder", ["llada_dense"], indirect=True)
def test_names_without_the_leading_model_are_the_same(folder):
    want = opened(folder).network(torch.arange(8)[None])
    rewritten(
        folder,
        lambda tensors: [tensors.update({key.removeprefix("model."): tensors.pop(key)}) for key in list(tensors)],
    )
    torch.testing.assert_close(opened(folder).network(torch.arange(8)[None]), want)


@pytest.mark.parametrize("folder", ["diffugpt"], indirect=True)
def test_a_tied_embedding_may_have_the_name_of_the_head(folder):
    embed, head = "embed_tokens.weight", "lm_head.weight"
    want = opened(folder).network(torch.arange(8)[None])
    rewritten(folder, lambda tensors: tensors.update({head: tensors.pop(embed)}))
    torch.testing.assert_close(opened(folder).network(torch.arange(8)[None]), want)
    rewritten(folder, lambda tensors: tensors.update({embed: tensors[head] * 2}))
    network = opened(folder).network.decoder
    assert network.head.weight is not network.embed.weight


@pytest.mark.parametrize("folder", ["llada_moe"], indirect=True)
def test_experts_may_come_without_a_bias_and_a_shared_one(folder):
    set_field(folder, shared_expert_intermediate_size=None, partial_rotary_factor=0.5)

    def change(tensors):
        for key in [key for key in tensors if key.endswith("mlp.expert_bias") or "shared_expert" in key]:
            del tensors[key]

    rewritten(folder, change)
    experts = [layer.experts for layer in opened(folder).network.decoder.layers if layer.experts is not None]
    assert experts
    assert all(one.bias is None and one.shared is None for one in experts)
    assert opened(folder).network.decoder.config.turned * 2 == opened(folder).network.decoder.config.head_dim


@pytest.mark.parametrize("folder", ["wedlm"], indirect=True)
def test_head_norms_and_biases_are_told_by_the_tensors(folder):
    def change(tensors):
        for key in [key for key in tensors if key.endswith("proj.bias")]:
            del tensors[key]
        for depth in range(2):
            for part in "qk":
                tensors[f"model.layers.{depth}.self_attn.{part}_norm.weight"] = torch.ones(12)

    rewritten(folder, change)
    shape = opened(folder).network.decoder.config
    assert shape.qk_norm
    assert not shape.qkv_bias


@pytest.mark.parametrize("folder", ["dream"], indirect=True)
def test_computed_tensors_that_tools_store_are_left(folder):
    extra = "model.layers.0.self_attn.rotary_emb.inv_freq"
    rewritten(folder, lambda tensors: tensors.update({extra: torch.ones(6)}))
    assert read_facts(open_folder(folder, "x")).unread == (extra,)
    assert opened(folder).family == "dream"


def joined(tensors, prefix, count):
    gates, ups, downs = (
        torch.stack([tensors.pop(f"{prefix}experts.{one}.{part}_proj.weight") for one in range(count)])
        for part in ("gate", "up", "down")
    )
    return gates, ups, downs


def as_transformers(tensors, prefix, count):
    gates, ups, downs = joined(tensors, prefix, count)
    tensors |= {f"{prefix}experts.gate_up_proj": torch.cat([gates, ups], 1), f"{prefix}experts.down_proj": downs}


def as_dfactory(tensors, prefix, count):
    for part, stack in zip(("gate", "up", "down"), joined(tensors, prefix, count), strict=True):
        tensors[f"{prefix}experts.{part}_proj"] = stack


def as_dinfer(tensors, prefix, count):
    gates, ups, downs = joined(tensors, prefix, count)
    tensors |= {f"{prefix}w1": torch.cat([gates, ups], 1), f"{prefix}w2": downs}


@pytest.mark.parametrize("folder", ["sdar_moe", "llada_moe", "llada2_moe"], indirect=True)
@pytest.mark.parametrize("store", [as_transformers, as_dfactory, as_dinfer])
def test_experts_may_be_stored_in_stacks(folder, store):
    want = opened(folder).network(torch.arange(8)[None])
    config = json.loads((folder / "config.json").read_text())

    def change(tensors):
        for prefix in sorted({name.split("experts.")[0] for name in tensors if ".mlp.experts." in name}):
            store(tensors, prefix, config["num_experts"])

    rewritten(folder, change)
    torch.testing.assert_close(opened(folder).network(torch.arange(8)[None]), want)


@pytest.mark.parametrize("name", ["llada_dense", "sdar_moe", "llada2_moe", "diffugpt"])
@torch.no_grad()
def test_half_precision_and_8_bit_weights_compute_nearly_the_same(name):
    tokens = torch.arange(24).view(2, 12)
    exact = opened(GOLDEN / name)
    want = exact.network(tokens)
    for form in (TensorForm(torch.bfloat16), TensorForm(torch.float16), TensorForm(int8=True)):
        got = opened(GOLDEN / name, form).network(tokens).float()
        near = torch.nn.functional.cosine_similarity(got, want, dim=-1)
        assert near.median() > 0.99, form  # in a single row a router may just choose another expert
    codes = [x for x in opened(GOLDEN / name, TensorForm(int8=True)).network.buffers() if x.dtype == torch.int8]
    matrices = [
        p for key, p in exact.network.named_parameters() if ".layers." in key and p.dim() > 1 and "router" not in key
    ]
    assert sum(x.numel() for x in codes) == sum(p.numel() for p in matrices)


def test_the_bias_of_a_router_keeps_32_bits():
    network = opened(GOLDEN / "llada2_moe", TensorForm(torch.bfloat16)).network
    biases = [p for key, p in network.named_parameters() if key.endswith("experts.bias")]
    assert biases
    assert {p.dtype for p in biases} == {torch.float32}
