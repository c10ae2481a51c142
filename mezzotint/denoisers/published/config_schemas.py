"""Stored configurations -> networks: one reader per schema of config.json."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import nn

from mezzotint.checkpoints.llama_variants import slides
from mezzotint.denoisers.layers.moe import BlockRouting, ExpertsConfig, Grouped, Softmax
from mezzotint.denoisers.networks.gpt2 import GPT2, GPT2Config
from mezzotint.denoisers.networks.gpt2 import GPT2Names as GPT2Names
from mezzotint.denoisers.networks.llama import Decoder, DecoderConfig
from mezzotint.denoisers.published import tensor_names
from mezzotint.denoisers.published.config_fields import OFF, Fields
from mezzotint.denoisers.published.fill_weights import Keys
from mezzotint.errors import CheckpointError


@dataclass(frozen=True)
class Architecture:
    """A network that a configuration describes, and where its parameters are stored."""

    make: Callable[[], nn.Module]
    keys: Keys
    vocab: int
    """Rows of the embedding."""
    context: int
    """Most columns the network was made for."""
    tied: bool = False
    head: str = ""
    """The stored name of the head, which tied checkpoints may hold a second time."""
    unread: Callable[[str], bool] = lambda name: name.endswith(COMPUTED)
    """Stored tensors that the network does without."""


Schema = Callable[[Fields], Architecture]

COMPUTED = ("rotary_emb.inv_freq",)
"""Endings of tensors some tools store although they are computed."""
SILU = ("silu", "swish")


def llama(fields: Fields) -> Architecture:
    """Llama and Qwen shapes: AR bases, Dream, DiffuLLaMA, SDAR, Fast-dLLM v2, WeDLM, RND1, with or without experts.

    Biases and head norms are told by the tensors, not by the configuration.
    """
    fields.only(
        hidden_act=SILU,
        use_sliding_window=OFF,
        mlp_bias=OFF,
        clip_qkv=OFF,
        partial_rotary_factor=(None, 1, 1.0),
        pretraining_tp=(None, 1),
        decoder_sparse_step=(None, 1),
    )
    if slides(fields.values):
        fields.only(sliding_window=OFF)
    if fields.get("layer_types"):
        fields.only(layer_types=(["full_attention"] * fields.layers("num_hidden_layers"),))
    heads, width = fields.count("num_attention_heads"), fields.count("hidden_size")
    first = "model.layers.0.self_attn."
    config = _decoder(
        fields,
        inner=fields.count("intermediate_size"),
        heads=heads,
        head_dim=fields.count("head_dim", width // heads),
        qkv_bias=first + "q_proj.bias" in fields.names,
        qk_norm=first + "q_norm.weight" in fields.names,
        experts=_qwen_experts(fields) if fields.get("num_experts") else None,
        dense=tuple(fields.counts("mlp_only_layers", [])),
    )
    return of_decoder(config, tensor_names.llama(fields.names))


def _qwen_experts(fields: Fields) -> ExpertsConfig:
    fields.only(shared_expert_intermediate_size=(None, 0))
    router = Softmax(_chosen(fields), fields.flag("norm_topk_prob", False))
    return ExpertsConfig(
        count=fields.experts("num_experts"), inner=fields.count("moe_intermediate_size"), router=router
    )


def _chosen(fields: Fields) -> int:
    """Experts per column, of those that there are."""
    return fields.among("num_experts_per_tok", fields.experts("num_experts"), "experts")


def llada(fields: Fields) -> Architecture:
    """LLaDA and MMaDA: OLMo's field names, rotation in 32 bits."""
    fields.only(
        activation_type=("silu",),
        block_type=("llama",),
        layer_norm_type=("rms",),
        rope=(True,),
        block_group_size=(None, 1),
        **dict.fromkeys(
            ("alibi", "include_bias", "include_qkv_bias", "bias_for_layer_norm", "attention_layer_norm"), OFF
        ),
        **dict.fromkeys(("scale_logits", "input_emb_norm", "multi_query_attention", "clip_qkv"), OFF),
    )
    heads, width = fields.count("n_heads"), fields.count("d_model")
    tied = fields.flag("weight_tying", False)
    config = DecoderConfig(
        vocab=fields.count("embedding_size", fields.count("vocab_size")),
        width=width,
        inner=fields.count("mlp_hidden_size", fields.count("mlp_ratio", 4) * width),
        layers=fields.layers("n_layers"),
        heads=heads,
        kv_heads=fields.count("n_kv_heads", heads),
        head_dim=width // heads,
        max_positions=fields.count("max_sequence_length"),
        rope_theta=fields.rope(),
        norm_eps=fields.number("rms_norm_eps"),
        tied=tied,
        wide_rotation=fields.flag("rope_full_precision", True),
    )
    return of_decoder(config, tensor_names.llada(fields.names))


def gpt2(fields: Fields) -> Architecture:
    """DiffuGPT: GPT-2 with its embedding moved out of it."""
    fields.only(
        activation_function=("gelu_new",),
        scale_attn_weights=(True,),
        **dict.fromkeys(("scale_attn_by_inverse_layer_idx", "reorder_and_upcast_attn"), OFF),
    )
    width, tied = fields.count("n_embd"), not {"embed_tokens.weight", "lm_head.weight"} <= fields.names
    config = GPT2Config(
        vocab=fields.count("vocab_size"),
        width=width,
        inner=fields.count("n_inner", 4 * width),
        layers=fields.layers("n_layer"),
        heads=fields.count("n_head"),
        max_positions=fields.count("n_positions"),
        norm_eps=fields.number("layer_norm_epsilon", 1e-5),
        tied=tied,
    )
    embed = "lm_head" if tied and "lm_head.weight" in fields.names else "embed_tokens"
    return Architecture(lambda: GPT2(config), GPT2Names(embed, "lm_head"), config.vocab, config.max_positions, tied)


def llada_moe(fields: Fields) -> Architecture:
    """LLaDA-MoE: dense and expert layers mixed; a bias of the router stays in the weights."""
    fields.only(
        hidden_act=SILU,
        clip_qkv=OFF,
        attention_bias=OFF,
        moe_router_score_function=(None, "softmax"),
        router_num_group=OFF,
        router_topk_group=OFF,
    )
    heads, width = fields.count("num_attention_heads"), fields.count("hidden_size")
    layers = fields.layers("num_hidden_layers")
    frequency = fields.counts("moe_layer_freq", [1] * layers)
    dim = width // heads
    experts = ExpertsConfig(
        count=fields.experts("num_experts"),
        inner=fields.count("expert_intermediate_size"),
        router=Softmax(_chosen(fields), renormalised=False),
        biased=any(name.endswith("mlp.expert_bias") for name in fields.names),
        shared=fields.count("shared_expert_intermediate_size", 0, least=0),
    )
    config = _decoder(
        fields,
        inner=fields.count("dense_intermediate_size", 1),
        heads=heads,
        head_dim=dim,
        qk_norm=fields.flag("qk_layernorm", False),
        turned=int(dim * fields.share("partial_rotary_factor")),
        experts=experts,
        dense=tuple(depth for depth, one in enumerate(frequency) if not one),
    )
    return of_decoder(config, tensor_names.llama(fields.names))


def llada2(fields: Fields) -> Architecture:
    """LLaDA2.0, 2.1 and 2.2: fused q, k, v; a part of each head turns; group-limited experts (2512.15745, sec. 2).

    Raises:
        CheckpointError: fields that are missing, or contradict each other.
    """
    fields.only(
        hidden_act=SILU,
        score_function=("sigmoid",),
        router_dtype=("fp32",),
        **dict.fromkeys(("use_bias", "use_qkv_bias", "use_sliding_window", "norm_head"), OFF),
        using_split_qkv_in_self_attention=OFF,
    )
    heads, width = fields.count("num_attention_heads"), fields.count("hidden_size")
    kv_heads, dim = fields.count("num_key_value_heads", heads), fields.count("head_dim", width // heads)
    inner = fields.count("moe_intermediate_size")
    groups = fields.among("n_group", fields.experts("num_experts"), "experts", 1)
    if fields.experts("num_experts") % groups:
        raise CheckpointError(f"{fields.file}: n_group is {groups}, which does not divide the experts")
    router = Grouped(
        _chosen(fields),
        groups,
        fields.among("topk_group", groups, "groups", 1),
        fields.number("routed_scaling_factor", 1.0),
        fields.flag("norm_topk_prob", True),
    )
    experts = ExpertsConfig(
        count=fields.experts("num_experts"),
        inner=inner,
        router=router,
        biased=fields.flag("moe_router_enable_expert_bias", False),
        shared=inner * fields.count("num_shared_experts", 0, least=0),
        pool=BlockRouting(capacity, fields.count("block_size"))
        if (capacity := fields.count("expert_capacity", 0, least=0))
        else None,
    )
    config = _decoder(
        fields,
        inner=fields.count("intermediate_size"),
        heads=heads,
        head_dim=dim,
        qk_norm=fields.flag("use_qk_norm", True),
        turned=int(dim * fields.share("partial_rotary_factor")),
        experts=experts,
        dense=tuple(range(min(fields.count("first_k_dense_replace", 0, least=0), fields.layers("num_hidden_layers")))),
    )
    return of_decoder(config, tensor_names.llada2(fields.names, heads * dim, kv_heads * dim))


def _decoder(fields: Fields, **more: Any) -> DecoderConfig:
    """The fields that Llama's descendants share."""
    return DecoderConfig(
        vocab=fields.count("vocab_size"),
        width=fields.count("hidden_size"),
        layers=fields.layers("num_hidden_layers"),
        kv_heads=fields.count("num_key_value_heads", more["heads"]),
        max_positions=fields.count("max_position_embeddings"),
        rope_theta=fields.rope(),
        norm_eps=fields.number("rms_norm_eps"),
        tied=fields.flag("tie_word_embeddings", False),
        **more,
    )


def of_decoder(config: DecoderConfig, names: tensor_names.TensorNames) -> Architecture:
    """A decoder of this shape, stored under these names."""
    return Architecture(
        make=lambda: Decoder(config),
        keys=names,
        vocab=config.vocab,
        context=config.max_positions,
        tied=config.tied,
        head=names.whole["head"] + ".weight",
    )
