"""Configurations of the released checkpoints describe networks of the released sizes; nothing is allocated."""

from pathlib import Path

import pytest

from mezzotint.checkpoints import Checkpoint
from mezzotint.checkpoints.folder import NO_TOKENIZER, SafeTensor
from mezzotint.denoisers.published.config_fields import Fields
from mezzotint.denoisers.published.families import FAMILIES, family_of
from mezzotint.denoisers.published.fill_weights import built

LLADA = {
    "model_type": "llada",
    "architectures": ["LLaDAModelLM"],
    "d_model": 4096,
    "n_layers": 32,
    "n_heads": 32,
    "n_kv_heads": 32,
    "mlp_hidden_size": 12288,
    "mlp_ratio": 4,
    "vocab_size": 126464,
    "embedding_size": 126464,
    "max_sequence_length": 4096,
    "rms_norm_eps": 1e-5,
    "rope_theta": 500000.0,
    "weight_tying": False,
}
ILLADA = LLADA | {
    "n_kv_heads": 8,
    "mlp_hidden_size": 14336,
    "vocab_size": 155136,
    "embedding_size": 155136,
    "max_sequence_length": 8192,
    "weight_tying": True,
}
QWEN = {
    "hidden_size": 3584,
    "num_hidden_layers": 28,
    "num_attention_heads": 28,
    "num_key_value_heads": 4,
    "intermediate_size": 18944,
    "vocab_size": 152064,
    "max_position_embeddings": 32768,
    "rms_norm_eps": 1e-6,
    "rope_theta": 1e6,
    "tie_word_embeddings": False,
}
LLADA2 = {
    "model_type": "llada2_moe",
    "architectures": ["LLaDA2MoeModelLM"],
    "num_hidden_layers": 20,
    "hidden_size": 2048,
    "intermediate_size": 5120,
    "num_attention_heads": 16,
    "num_key_value_heads": 4,
    "head_dim": 128,
    "num_experts": 256,
    "num_experts_per_tok": 8,
    "num_shared_experts": 1,
    "moe_intermediate_size": 512,
    "first_k_dense_replace": 1,
    "n_group": 8,
    "topk_group": 4,
    "score_function": "sigmoid",
    "moe_router_enable_expert_bias": True,
    "norm_topk_prob": True,
    "routed_scaling_factor": 2.5,
    "router_dtype": "fp32",
    "rope_theta": 600000,
    "partial_rotary_factor": 0.5,
    "rms_norm_eps": 1e-6,
    "vocab_size": 157184,
    "max_position_embeddings": 16384,
    "tie_word_embeddings": False,
}
FLASH = LLADA2 | {
    "num_hidden_layers": 32,
    "hidden_size": 4096,
    "intermediate_size": 9216,
    "num_attention_heads": 32,
    "moe_intermediate_size": 1024,
}
RND1 = QWEN | {
    "model_type": "rnd1",
    "hidden_size": 2048,
    "num_hidden_layers": 48,
    "num_attention_heads": 32,
    "head_dim": 128,
    "num_experts": 128,
    "num_experts_per_tok": 8,
    "moe_intermediate_size": 768,
    "norm_topk_prob": True,
    "vocab_size": 151936,
}
BIAS = "model.layers.0.self_attn.q_proj.bias"
NORM = "model.layers.0.self_attn.q_norm.weight"
RELEASED = {
    # config, a tensor that tells, billions of parameters
    "LLaDA-8B": (LLADA, "", 8.016),
    "iLLaDA-8B": (ILLADA, "", 7.62),
    "Dream-7B": (QWEN | {"model_type": "Dream"}, BIAS, 7.616),
    "Fast-dLLM-v2-7B": (QWEN | {"model_type": "Fast_dLLM_Qwen", "bd_size": 32}, BIAS, 7.616),
    "LLaDA2.0-mini": (LLADA2, "", 16.3),
    "LLaDA2.0-flash": (FLASH, "", 103.0),
    "RND1-Base": (RND1, NORM, 30.5),
}


def network(config, tells):
    # enough tensors for any number of layers, with rows for any number of experts
    names = [tells, *(f"tensor {number}" for number in range(100))]
    stored = {name: SafeTensor(name, Path("x"), b"", (1000,), "bf16", 0, 0) for name in names if name}
    checkpoint = Checkpoint("x", Path("x"), config, NO_TOKENIZER, stored)
    family = family_of(config, "config.json")
    return built(FAMILIES[family].schema(Fields(checkpoint)).make)


@pytest.mark.parametrize("name", RELEASED)
def test_the_number_of_parameters_is_that_of_the_release(name):
    config, tells, billions = RELEASED[name]
    parameters = list(network(config, tells).parameters())
    assert all(p.is_meta for p in parameters)
    assert sum(p.numel() for p in parameters) / 1e9 == pytest.approx(billions, rel=0.01)


def test_llada_has_its_very_bytes_and_tensors():
    parameters = list(network(LLADA, "").parameters())
    assert len(parameters) == 291
    assert 2 * sum(p.numel() for p in parameters) == 16_031_162_368
