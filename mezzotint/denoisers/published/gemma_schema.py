"""DiffusionGemma's configuration and names (transformers 5): text path only, the vision tower stays unread."""

from mezzotint.denoisers.networks.diffusion_gemma import AttentionSettings, DiffusionGemma, GemmaConfig
from mezzotint.denoisers.published.config_fields import OFF, Fields
from mezzotint.denoisers.published.config_schemas import COMPUTED, Architecture
from mezzotint.denoisers.published.fill_weights import Piece

WINDOWED, FULL = "sliding_attention", "full_attention"
CAP = 30.0
"""Where the configuration leaves `final_logit_softcapping` out, as transformers writes it."""
TURNED = 0.25
"""The same for `partial_rotary_factor` of layers that see everything."""
READER, DENOISER = "model.encoder.language_model.", "model.decoder."
SIGHTS = ("model.encoder.vision_tower.", "model.encoder.embed_vision.")
"""Beginnings of names that only images need."""
INSIDE = {
    "q": "self_attn.q_proj",
    "k": "self_attn.k_proj",
    "v": "self_attn.v_proj",
    "o": "self_attn.o_proj",
    "qn": "self_attn.q_norm",
    "kn": "self_attn.k_norm",
    "ln1": "input_layernorm",
    "ln1_after": "post_attention_layernorm",
    "ln2": "pre_feedforward_layernorm",
    "ln2_after": "post_feedforward_layernorm",
    "ln2_expert": "pre_feedforward_layernorm_2",
    "ln2_dense_after": "post_feedforward_layernorm_1",
    "ln2_expert_after": "post_feedforward_layernorm_2",
    "dense.gate": "mlp.gate_proj",
    "dense.up": "mlp.up_proj",
    "dense.down": "mlp.down_proj",
    "router": "router.proj",
}
BARE = {
    "router_scale": "router.scale",
    "expert_scale": "router.per_expert_scale",
    "gate_up.weight": "experts.gate_up_proj",
    "down.weight": "experts.down_proj",
    "scalar": "layer_scalar",
}
WHOLE = {
    "embed.weight": "embed_tokens.weight",
    "norm.weight": "norm.weight",
    "condition_norm.weight": "self_conditioning.pre_norm.weight",
    "condition.gate.weight": "self_conditioning.gate_proj.weight",
    "condition.up.weight": "self_conditioning.up_proj.weight",
    "condition.down.weight": "self_conditioning.down_proj.weight",
}


def names(ours: str, shape: tuple[int, ...]) -> list[Piece]:
    """The stored tensor that fills a parameter of `DiffusionGemma`."""
    if ours in WHOLE:
        return [Piece(DENOISER + WHOLE[ours], shape)]
    _, depth, rest = ours.split(".", 2)
    if rest == "reading_scalar":
        return [Piece(f"{READER}layers.{depth}.layer_scalar", shape)]
    stem = f"{DENOISER}layers.{depth}."
    if rest in BARE:
        return [Piece(stem + BARE[rest], shape)]
    module, _, leaf = rest.rpartition(".")
    return [Piece(f"{stem}{INSIDE[module]}.{leaf}", shape)]


def diffusion_gemma(whole: Fields) -> Architecture:
    """DiffusionGemma: reader and denoiser share all weights but a number per layer."""
    whole.only(tie_word_embeddings=(True,))
    fields = whole.inner("text_config")
    fields.only(
        hidden_activation=("gelu_pytorch_tanh",),
        attention_bias=OFF,
        use_bidirectional_attention=(None, "vision"),
        tie_word_embeddings=(True,),
    )
    usual = [FULL if (depth + 1) % 6 == 0 else WINDOWED for depth in range(fields.layers("num_hidden_layers"))]
    kinds = fields.kinds("layer_types", usual, (WINDOWED, FULL))
    config = GemmaConfig(
        vocab=fields.count("vocab_size"),
        width=fields.count("hidden_size"),
        inner=fields.count("intermediate_size"),
        heads=fields.count("num_attention_heads"),
        experts=fields.experts("num_experts"),
        chosen=fields.among("top_k_experts", fields.experts("num_experts"), "experts"),
        expert_inner=fields.count("moe_intermediate_size"),
        layers=tuple(_sight(fields, depth, kind) for depth, kind in enumerate(kinds)),
        max_positions=fields.count("max_position_embeddings"),
        norm_eps=fields.number("rms_norm_eps", 1e-6),
        cap=fields.number("final_logit_softcapping", CAP),
    )
    return Architecture(
        make=lambda: DiffusionGemma(config),
        keys=names,
        vocab=config.vocab,
        context=config.max_positions,
        tied=True,
        head="lm_head.weight",
        unread=lambda name: name.startswith(SIGHTS) or name.endswith(COMPUTED),
    )


def _sight(fields: Fields, depth: int, kind: str) -> AttentionSettings:
    windowed = kind == WINDOWED
    heads, dim = fields.count("num_key_value_heads"), fields.count("head_dim")
    if not windowed:
        heads, dim = fields.count("num_global_key_value_heads", heads), fields.count("global_head_dim", dim)
    own, turn = fields.under("per_layer_config", str(depth)), fields.under("rope_parameters", kind)
    return AttentionSettings(
        kv_heads=own.count("num_key_value_heads", heads),
        head_dim=own.count("head_dim", dim),
        theta=turn.number("rope_theta", 1e4 if windowed else 1e6),
        turned=turn.share("partial_rotary_factor", 1.0 if windowed else TURNED),
        window=fields.count("sliding_window") if windowed else None,
    )
