"""What a published checkpoint must be to open: every stored number used once, and one sentence for what is wrong."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from released import GIVEN, GOLDEN, copied, opened, rewritten, set_field
from safetensors.torch import load_file, save_file

from mezzotint.checkpoints.folder import open_published as open_folder
from mezzotint.denoisers.published.families import FAMILIES, family_of
from mezzotint.denoisers.published.identify import Overrides, read_facts
from mezzotint.denoisers.published.inspect import inspected
from mezzotint.denoisers.published.open import open_published
from mezzotint.errors import CheckpointError, ConfigError

MODELS = {
    "llada_dense": "llada",
    "llada_gqa_tied": "llada",
    "mmada_t2i": "mmada",
    "llada_moe": "llada_moe",
    "llada2_moe": "llada2",
    "dream": "dream",
    "diffullama": "diffullama",
    "diffugpt": "diffugpt",
    "sdar": "sdar",
    "sdar_moe": "sdar",
    "wedlm": "wedlm",
    "rnd1": "rnd1",
    "diffusion_gemma_moe": "diffusion_gemma",
}


@pytest.fixture
def folder(request, tmp_path):
    """A copy of a recorded folder that a test may damage."""
    return copied(request.param, tmp_path)


def a_matrix(path):
    """A matrix inside the last layer."""
    tensors = load_file(path / "model.safetensors")
    return max(name for name, x in tensors.items() if x.dim() == 2 and ".1." in name and "encoder" not in name)


@pytest.mark.parametrize("name", MODELS)
def test_30_every_number_is_used_and_the_family_is_told(name):
    model = opened(GOLDEN / name)
    assert model.family == MODELS[name]
    stored = open_folder(GOLDEN / name, name)
    unread = read_facts(stored, GIVEN.get(name, Overrides())).unread
    used = sum(p.numel() for p in model.network.parameters())
    assert used == sum(
        load_file(GOLDEN / name / "model.safetensors")[key].numel() for key in stored.names() if key not in unread
    )
    assert not any(p.is_meta for p in model.network.parameters())


@pytest.mark.parametrize("folder", MODELS, indirect=True)
def test_a_missing_an_extra_and_a_misshapen_tensor_are_named(folder):
    key = a_matrix(folder)
    whole = (folder / "model.safetensors").read_bytes()
    for change, sentence in [
        (lambda tensors: tensors.pop(key), f"lacks the tensor {key}"),
        (lambda tensors: tensors.update({"model.stray.weight": torch.zeros(3)}), r"no place for, such as model\.stray"),
        (
            lambda tensors: tensors.update({key: tensors[key][:, 1:].contiguous()}),
            f"model.safetensors.*{key} has shape",
        ),
    ]:
        (folder / "model.safetensors").write_bytes(whole)
        rewritten(folder, change)
        with pytest.raises(CheckpointError, match=sentence):
            opened(folder)
    (folder / "model.safetensors").write_bytes(whole[:-5])
    with pytest.raises(CheckpointError, match=r"model\.safetensors is truncated: .* ends at byte"):
        opened(folder)


@pytest.mark.parametrize(
    ("folder", "field", "value"),
    [
        ("llada_dense", "alibi", True),
        ("llada_dense", "activation_type", "gelu"),
        ("llada_dense", "scale_logits", True),
        ("dream", "rope_scaling", {"rope_type": "yarn", "factor": 4.0}),
        ("dream", "hidden_act", "gelu"),
        ("sdar", "use_sliding_window", True),
        ("sdar_moe", "decoder_sparse_step", 2),
        ("rnd1", "layer_types", ["sliding_attention", "full_attention"]),
        ("llada_moe", "moe_router_score_function", "sigmoid"),
        ("llada2_moe", "score_function", "softmax"),
        ("diffugpt", "activation_function", "relu"),
        ("diffusion_gemma_moe", "tie_word_embeddings", False),
    ],
    indirect=["folder"],
)
def test_a_setting_that_is_not_computed_is_named(folder, field, value):
    set_field(folder, **{field: value})
    with pytest.raises(CheckpointError, match=rf"config\.json sets {field} to"):
        opened(folder)


@pytest.mark.parametrize(
    ("folder", "field"), [("dream", "hidden_size"), ("llada_dense", "d_model")], indirect=["folder"]
)
def test_a_missing_setting_is_named(folder, field):
    set_field(folder, **{field: None})
    with pytest.raises(CheckpointError, match=rf"config\.json lacks {field}"):
        opened(folder)


@pytest.mark.parametrize(
    ("folder", "field", "value", "message"),
    [
        ("llada_dense", "n_kv_heads", "two", "n_kv_heads is 'two', not a positive whole number"),
        ("llada_dense", "mlp_hidden_size", -1, "mlp_hidden_size is -1, not a positive whole number"),
        ("llada_dense", "n_layers", 10**9, r"n_layers is 1000000000, but there are only \d+ stored tensors"),
        ("llada_dense", "rms_norm_eps", "small", "rms_norm_eps is 'small', not a positive number"),
        ("llada_dense", "mask_token_id", [1], r"the mask id \[1\] lies outside"),
        ("llada_dense", "architectures", 3, None),
        ("llada_dense", "eos_token_id", {"a": 1}, None),
        ("dream", "tie_word_embeddings", "no", "tie_word_embeddings is 'no', neither true nor false"),
        ("dream", "rope_scaling", 2, "rope_scaling is 2, not an object"),
        ("sdar_moe", "mlp_only_layers", "all", "mlp_only_layers is 'all', not a list of whole numbers"),
        ("sdar_moe", "num_experts", 10**9, "num_experts is 1000000000, but there are only"),
        ("sdar_moe", "num_experts_per_tok", 99, r"num_experts_per_tok is 99, but there are only \d+ experts"),
        ("sdar_moe", "block_size", 10**9, r"block_size is 1000000000, but there are only \d+ columns"),
        ("llada_moe", "partial_rotary_factor", 3.7, "partial_rotary_factor is 3.7, more than the whole"),
        ("diffusion_gemma_moe", "text_config", [], "lacks text_config"),
        ("diffusion_gemma_moe", "text_config.layer_types", 1, "layer_types is 1, not 3 of sliding_attention, full"),
        ("diffusion_gemma_moe", "text_config.layer_types", ["full_attention"], "not 3 of sliding_attention, full"),
        ("diffusion_gemma_moe", "text_config.layer_types", ["linear_attention"] * 3, "not 3 of sliding_attention"),
        (
            "diffusion_gemma_moe",
            "text_config.rope_parameters.full_attention.rope_theta",
            "x",
            "rope_parameters.full_attention.rope_theta is 'x', not a positive number",
        ),
        (
            "diffusion_gemma_moe",
            "text_config.rope_parameters.sliding_attention",
            3,
            "rope_parameters.sliding_attention is 3, not an object",
        ),
        (
            "diffusion_gemma_moe",
            "text_config.per_layer_config.2.head_dim",
            None,
            r"has shape \[.*the configuration asks",
        ),
        (
            "diffusion_gemma_moe",
            "text_config.per_layer_config.2.num_key_value_heads",
            {},
            "per_layer_config.2.num_key_value_heads is {}, not a positive whole number",
        ),
    ],
    indirect=["folder"],
)
def test_a_setting_of_the_wrong_kind_is_named(folder, field, value, message):
    config = json.loads((folder / "config.json").read_text())
    *inside, last = field.split(".")
    part = config
    for key in inside:
        part = part[key]
    part[last] = value
    set_field(folder, **config)
    if message is None:
        open_published(folder)
        return
    with pytest.raises(CheckpointError, match=message):
        open_published(folder)


@pytest.mark.parametrize("folder", ["diffullama"], indirect=True)
def test_a_window_that_is_on_by_default_is_named(folder):
    set_field(folder, model_type="mistral", sliding_window=64)
    with pytest.raises(CheckpointError, match=r"config\.json sets sliding_window to 64"):
        opened(folder)


@pytest.mark.parametrize("folder", ["sdar"], indirect=True)
def test_a_type_that_cannot_be_read_is_named_before_anything_is_read(folder):
    path, key = folder / "model.safetensors", "model.layers.0.mlp.up_proj.weight"
    tensors = load_file(path)
    save_file(tensors | {key: tensors[key].to(torch.float8_e4m3fn)}, path)
    for look in (opened, lambda at: inspected(open_folder(at, "x"), Overrides())):
        with pytest.raises(CheckpointError, match=rf"model\.safetensors stores {key} as f8_e4m3: only F64, F32"):
            look(folder)


@pytest.mark.parametrize("folder", ["sdar"], indirect=True)
def test_code_and_pickles_are_refused(folder):
    auto_map = {"AutoModel": "modeling_sdar.SDAR"}
    set_field(folder, auto_map=auto_map)
    assert opened(folder).family == "sdar"  # known: its code is not needed, and not run
    set_field(folder, model_type="mystery", auto_map=auto_map)
    with pytest.raises(CheckpointError, match=r"config\.json has model_type 'mystery'.*auto_map"):
        opened(folder)
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x02")
    with pytest.raises(CheckpointError, match=r"pytorch_model\.bin is a pickle"):
        opened(folder)


@pytest.mark.parametrize(
    ("config", "family"),
    [
        ({"model_type": "llada", "architectures": ["LLaDAModelLM"]}, "llada"),
        ({"model_type": "llada", "architectures": ["LLaDAMoEModelLM"]}, "llada_moe"),
        ({"model_type": "llada", "num_experts": 64}, "llada_moe"),
        ({"model_type": "lladamoe"}, "llada_moe"),
        ({"model_type": "llada2_moe_veomni"}, "llada2"),
        ({"model_type": "Dream"}, "dream"),
        ({"model_type": "Fast_dLLM_Qwen"}, "fast_dllm"),
        ({"model_type": "sdar_moe"}, "sdar"),
        ({"model_type": "qwen2", "architectures": ["WeDLMForCausalLM"]}, "wedlm"),
        ({"model_type": "gpt2", "architectures": ["DiscreteDiffusionModel"]}, "diffugpt"),
        ({"model_type": "qwen3"}, "ar"),
        ({"model_type": "qwen3", "mask_token_id": 5}, "ar"),
        ({"model_type": "qwen3", "mask_token_id": 5, "is_causal": True}, "ar"),
        ({"model_type": "qwen3", "mask_token_id": 5, "is_causal": True, "shift_logits": True}, "idlm"),
        ({"model_type": "llama", "mask_token_id": 5, "is_causal": True, "shift_logits": False}, "wedlm"),
        ({"model_type": "llama", "mask_token_id": 5, "is_causal": False, "shift_logits": False}, "masked"),
    ],
)
def test_30_families_are_told_by_more_than_their_type(config, family):
    assert family_of(config, "config.json") == family
    assert family in FAMILIES


@pytest.mark.parametrize("folder", ["sdar"], indirect=True)
def test_ids_and_blocks_come_from_the_user_then_the_files_then_the_table(folder):
    facts = read_facts(open_folder(folder, "x"))
    config = json.loads((folder / "config.json").read_text())
    assert (facts.mask_id, facts.block) == (config["mask_token_id"], config["block_size"])
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [7, 9]}))
    assert read_facts(open_folder(folder, "x")).stop_ids == (7, 9, config["eos_token_id"])
    given = Overrides(mask_id=3, stop_ids=(4,), block=16)
    facts = read_facts(open_folder(folder, "x"), given)
    assert (facts.mask_id, facts.stop_ids, facts.block) == (3, (4,), 16)
    set_field(folder, block_size=None, mask_token_id=None)
    with pytest.raises(CheckpointError, match="the mask id 151669 lies outside the 160 rows"):
        read_facts(open_folder(folder, "x"))
    assert read_facts(open_folder(folder, "x"), Overrides(mask_id=3)).block == FAMILIES["sdar"].block
    with pytest.raises(ConfigError, match="there is no family 'nobody'"):
        read_facts(open_folder(folder, "x"), Overrides(family="nobody"))


def test_a_mask_that_is_ordinary_text_is_refused(tmp_path):
    folder = Path(shutil.copytree(GOLDEN / "dream", tmp_path / "dream"))
    config = json.loads((folder / "config.json").read_text())
    vocab = {f"word{index}": index for index in range(config["vocab_size"])}
    tokenizer = {"model": {"type": "WordLevel", "vocab": vocab}, "added_tokens": []}
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    with pytest.raises(CheckpointError, match="is a token of ordinary text"):
        open_published(folder)
    tokenizer["added_tokens"] = [{"id": config["mask_token_id"], "content": "<mask>", "special": True}]
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    assert open_published(folder).tokenizer is not None


MEASURE = """
import re, sys, torch
from pathlib import Path
from mezzotint.denoisers.published.open import open_published
from mezzotint.denoisers.published.fill_weights import TensorForm

def kib(what):
    return int(re.search(what + r":\\s+(\\d+)", Path("/proc/self/status").read_text())[1])

torch.zeros(8, 8) @ torch.zeros(8, 8)
Path("/proc/self/clear_refs").write_text("5")
before = kib("VmRSS")
model = open_published(sys.argv[1], TensorForm(torch.bfloat16))
held = sum(p.numel() * p.element_size() for p in model.network.parameters())
print((kib("VmHWM") - before) * 1024 / held)
"""


def test_loading_peaks_below_1_2_times_the_weights(tmp_path):
    folder = Path(shutil.copytree(GOLDEN / "dream", tmp_path / "dream"))
    set_field(folder, hidden_size=1024, intermediate_size=3072, num_hidden_layers=6, head_dim=64, vocab_size=2048)
    set_field(folder, num_attention_heads=16, num_key_value_heads=16, bos_token_id=1)
    model = {"model.embed_tokens.weight": (2048, 1024), "lm_head.weight": (2048, 1024), "model.norm.weight": (1024,)}
    for depth in range(6):
        prefix = f"model.layers.{depth}."
        model |= {f"{prefix}self_attn.{one}_proj.weight": (1024, 1024) for one in "qkvo"}
        model |= {f"{prefix}self_attn.{one}_proj.bias": (1024,) for one in "qkv"}
        model |= {f"{prefix}mlp.{one}_proj.weight": (3072, 1024) for one in ("gate", "up")}
        model |= {f"{prefix}mlp.down_proj.weight": (1024, 3072)}
        model |= {f"{prefix}{one}_layernorm.weight": (1024,) for one in ("input", "post_attention")}
    save_file(
        {key: torch.zeros(shape, dtype=torch.bfloat16) for key, shape in model.items()}, folder / "model.safetensors"
    )
    measure = [sys.executable, "-c", MEASURE, folder]
    done = subprocess.run(measure, capture_output=True, text=True, check=True, timeout=120)
    assert 0.9 < float(done.stdout) < 1.2
