"""The decoder computes what transformers computes on the same weights, whole or piece by piece."""

import json
from pathlib import Path

import gguf
import pytest
import torch
from safetensors.torch import save_file
from tiny_files import write_folder, write_gguf
from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM, Qwen3Config, Qwen3ForCausalLM

from mezzotint.checkpoints import open_checkpoint
from mezzotint.denoisers.load import load_decoder
from mezzotint.denoisers.networks.llama import Decoder, DecoderConfig
from mezzotint.errors import CapacityError, CheckpointError

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "smollm2" / "logits.json").read_text())
SHAPE = {
    "vocab_size": 97,
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "rope_parameters": {"rope_type": "default", "rope_theta": 7000.0},
}
FAMILIES = {
    "llama, tied": (LlamaForCausalLM, LlamaConfig, {"tie_word_embeddings": True}),
    "llama, own head": (LlamaForCausalLM, LlamaConfig, {"tie_word_embeddings": False, "rms_norm_eps": 1e-5}),
    "qwen2, bias": (Qwen2ForCausalLM, Qwen2Config, {"tie_word_embeddings": False}),
    "qwen3, head norms": (Qwen3ForCausalLM, Qwen3Config, {"tie_word_embeddings": True, "head_dim": 16}),
}
TOKENS = torch.randint(0, 97, (2, 11), generator=torch.Generator().manual_seed(0))


@pytest.fixture(params=FAMILIES, scope="module")
def pair(request, tmp_path_factory):
    """transformers' network with random weights, and ours read from what it saved."""
    network, config, changes = FAMILIES[request.param]
    torch.manual_seed(0)
    theirs = network(config(**SHAPE, **changes)).eval()
    with torch.no_grad():
        for parameter in theirs.parameters():  # norms start as ones and biases as zeros, which would hide mistakes
            parameter.copy_(torch.randn_like(parameter) * 0.2 + (parameter.dim() == 1))
    folder = tmp_path_factory.mktemp("model")
    write_folder(folder)
    theirs.save_pretrained(folder)
    return theirs, load_decoder(open_checkpoint(folder))


@torch.no_grad()
def test_logits_and_residual_streams_equal_those_of_transformers(pair):
    theirs, ours = pair
    expected = theirs(TOKENS, output_hidden_states=True)
    got = ours(TOKENS, taps=(2, 0, 1))
    torch.testing.assert_close(got.logits, expected.logits, rtol=1e-4, atol=1e-5)
    for tap, depth in zip(got.taps, (2, 0, 1), strict=True):
        torch.testing.assert_close(tap, expected.hidden_states[depth], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(got.hidden, expected.hidden_states[3], rtol=1e-4, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("pieces", [(11,), (1,) * 11, (4, 1, 6), (7, 4)])
def test_piece_by_piece_with_a_cache_equals_the_whole(pair, pieces):
    ours = pair[1]
    cache = ours.cache(batch=2, capacity=16)
    got = torch.cat([ours(piece, cache=cache).logits for piece in TOKENS.split(pieces, 1)], 1)
    torch.testing.assert_close(got, ours(TOKENS).logits, rtol=1e-4, atol=1e-5)
    assert cache.length == 11


@pytest.fixture(scope="module")
def small() -> Decoder:
    torch.manual_seed(0)
    shape = DecoderConfig(
        vocab=97, width=48, inner=80, layers=3, heads=6, kv_heads=2, head_dim=8, max_positions=64, qk_norm=True
    )
    return Decoder(shape).eval().requires_grad_(False)


def test_a_block_that_sees_itself_and_its_context_equals_the_full_pass(small):
    """Context causal, the last four columns bidirectional: cached context and one masked pass agree."""
    see = torch.ones(11, 11, dtype=torch.bool).tril()
    see[7:, 7:] = True
    whole = small(TOKENS, attend=see).logits
    cache = small.cache(batch=2, capacity=11)
    small(TOKENS[:, :7], cache=cache)
    block = small(TOKENS[:, 7:], attend=torch.ones(4, 11, dtype=torch.bool), cache=cache).logits
    torch.testing.assert_close(block, whole[:, 7:])
    torch.testing.assert_close(small(TOKENS[:, :7]).logits, whole[:, :7])


def test_masks_and_positions_may_differ_between_the_rows_of_a_batch(small):
    """The second row is the first one shifted by two columns of padding it must not see."""
    tokens = torch.stack([TOKENS[0], TOKENS[0].roll(2)])
    positions = torch.stack([torch.arange(11), torch.arange(11) - 2])
    see = torch.ones(2, 1, 11, 11, dtype=torch.bool).tril()
    see[1, :, 2:, :2] = False
    logits = small(tokens, positions, see).logits
    torch.testing.assert_close(logits[1, 2:], logits[0, :-2])


def test_truncating_takes_drafts_back(small):
    cache = small.cache(batch=2, capacity=16)
    small(TOKENS[:, :5], cache=cache)
    small(TOKENS[:, 8:11], cache=cache)
    cache.truncate(5)
    torch.testing.assert_close(small(TOKENS[:, 5:], cache=cache).logits, small(TOKENS).logits[:, 5:])


def test_the_right_branch_of_a_tree_can_be_kept(small):
    """Columns 5, 6 | 7, 8 hold two drafts of the same two positions; the second is kept."""
    cache = small.cache(batch=2, capacity=16)
    small(TOKENS[:, :5], cache=cache)
    draft = torch.cat([TOKENS[:, 9:11], TOKENS[:, 5:7]], 1)
    see = torch.ones(4, 9, dtype=torch.bool).tril(5)
    see[2:, 5:7] = False
    small(draft, torch.tensor([5, 6, 5, 6]), see, cache)
    cache.keep(5, torch.tensor([7, 8]))
    assert cache.length == 7
    torch.testing.assert_close(small(TOKENS[:, 7:], cache=cache).logits, small(TOKENS).logits[:, 7:])


def test_embeddings_may_be_given_directly(small):
    torch.testing.assert_close(small(small.embed(TOKENS)).logits, small(TOKENS).logits)


def test_the_head_is_optional(small):
    assert small(TOKENS, head=False).logits is None


def test_a_full_cache_says_so(small):
    cache = small.cache(batch=2, capacity=8)
    with pytest.raises(CapacityError, match="cannot read 11 more tokens after 0"):
        small(TOKENS, cache=cache)
    with pytest.raises(CapacityError, match="at most 64"):
        small.cache(batch=1, capacity=65)


@torch.no_grad()
def test_gguf_and_safetensors_of_the_same_weights_give_the_same_network(tmp_path):
    write_gguf(tmp_path / "x.gguf", gguf.GGMLQuantizationType.F32)
    one = load_decoder(open_checkpoint(tmp_path / "x.gguf"))
    two = load_decoder(open_checkpoint(write_folder(tmp_path / "x")))
    torch.testing.assert_close(one(TOKENS).logits, two(TOKENS).logits, rtol=0, atol=0)


def saved(pair, tmp_path, **edits):
    """A folder with the weights of ours under their names, some left out, added or changed."""
    theirs = pair[0]
    folder = write_folder(tmp_path / "edited")
    theirs.save_pretrained(folder)
    opened = open_checkpoint(folder)
    tensors = {name: torch.from_numpy(opened.tensor(name)) for name in opened.names()}
    for name, value in edits.items():
        if value is None:
            del tensors[name]
        else:
            tensors[name] = value
    save_file(tensors, folder / "model.safetensors")
    return open_checkpoint(folder)


def test_missing_extra_and_misshapen_tensors_are_named(pair, tmp_path):
    name = "model.layers.1.mlp.up_proj.weight"
    with pytest.raises(CheckpointError, match=f"lacks the tensor {name}"):
        load_decoder(saved(pair, tmp_path, **{name: None}))
    with pytest.raises(CheckpointError, match=r"no place for, such as model\.extra"):
        load_decoder(saved(pair, tmp_path, **{"model.extra": torch.zeros(2)}))
    with pytest.raises(CheckpointError, match=rf"{name} has shape \[80, 47\]"):
        load_decoder(saved(pair, tmp_path, **{name: torch.zeros(80, 47)}))


def test_a_missing_head_is_only_forgiven_when_it_is_the_embedding(tmp_path):
    with pytest.raises(CheckpointError, match=r"lacks the tensor lm_head\.weight"):
        load_decoder(open_checkpoint(write_folder(tmp_path / "x", tie_word_embeddings=False)))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("model_type", "gemma"),
        ("hidden_act", "gelu"),
        ("rope_scaling", {"rope_type": "llama3", "factor": 8.0}),
        ("partial_rotary_factor", 0.5),
    ],
)
def test_what_the_decoder_would_compute_wrongly_is_refused(tmp_path, key, value):
    with pytest.raises(CheckpointError, match=f"{value}" if key == "model_type" else key):
        load_decoder(open_checkpoint(write_folder(tmp_path / "x", **{key: value})))


@pytest.mark.golden("smollm2")
@pytest.mark.model
@torch.no_grad()
def test_the_default_model_equals_transformers():
    decoder = load_decoder(open_checkpoint("smollm2-135m-instruct"))
    got = decoder(torch.tensor([GOLDEN["ids"]]), taps=(0, 10, 20))
    top = got.logits[0, -1].topk(10)
    assert got.logits[0].argmax(-1).tolist() == GOLDEN["argmax"]
    assert top.indices.tolist() == GOLDEN["top_ids"]
    torch.testing.assert_close(top.values, torch.tensor(GOLDEN["top_logits"]), rtol=1e-4, atol=1e-3)
    for depth, tap in zip((0, 10, 20), got.taps, strict=True):
        expected = torch.tensor(GOLDEN["taps"][str(depth)])
        torch.testing.assert_close(tap[0, -1, :8], expected, rtol=1e-3, atol=1e-3)
