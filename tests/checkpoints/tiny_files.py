"""Tiny real model files: a GGUF written with the gguf package, and a folder written with safetensors."""

import json
from pathlib import Path

import gguf
import numpy as np
from gguf.quants import quantize
from safetensors.numpy import save_file

HEADS, KV_HEADS, DIM, WIDTH, INNER, LAYERS = 4, 2, 16, 64, 96, 2
CONTROL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]


def alphabet() -> list[str]:
    """The 256 symbols byte-level BPE writes bytes with: printable Latin-1, and 256 onwards for the rest."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = iter(range(256, 512))
    return [chr(code) if code in plain else chr(next(rest)) for code in range(256)]


def weights(seed: int = 0) -> dict[str, np.ndarray]:
    """Random weights by Hugging Face name."""
    rng = np.random.default_rng(seed)
    vocab = len(CONTROL) + 256 + 2
    shapes = {"model.embed_tokens.weight": (vocab, WIDTH), "model.norm.weight": (WIDTH,)}
    for depth in range(LAYERS):
        layer = f"model.layers.{depth}."
        shapes |= {
            layer + "input_layernorm.weight": (WIDTH,),
            layer + "post_attention_layernorm.weight": (WIDTH,),
            layer + "self_attn.q_proj.weight": (HEADS * DIM, WIDTH),
            layer + "self_attn.k_proj.weight": (KV_HEADS * DIM, WIDTH),
            layer + "self_attn.v_proj.weight": (KV_HEADS * DIM, WIDTH),
            layer + "self_attn.o_proj.weight": (WIDTH, HEADS * DIM),
            layer + "mlp.gate_proj.weight": (INNER, WIDTH),
            layer + "mlp.up_proj.weight": (INNER, WIDTH),
            layer + "mlp.down_proj.weight": (WIDTH, INNER),
        }
    return {name: rng.normal(0, 0.1, shape).astype(np.float32) for name, shape in shapes.items()}


CONFIG = {
    "model_type": "llama",
    "hidden_size": WIDTH,
    "intermediate_size": INNER,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "num_key_value_heads": KV_HEADS,
    "vocab_size": len(CONTROL) + 258,
    "max_position_embeddings": 64,
    "rope_parameters": {"rope_type": "default", "rope_theta": 5000.0},
    "rms_norm_eps": 1e-5,
    "tie_word_embeddings": True,
    "eos_token_id": 2,
}
RENAMED = {
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def interleaved(matrix: np.ndarray, heads: int) -> np.ndarray:
    """Rows as llama.cpp's converter leaves them: (half, component) of a head swapped."""
    return matrix.reshape(heads, 2, DIM // 2, -1).swapaxes(1, 2).reshape(matrix.shape)


def write_gguf(path: Path, kind: gguf.GGMLQuantizationType, architecture: str = "llama", pre: str = "smollm") -> None:
    """A GGUF file as the converter writes it; norms stay in 32 bits."""
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_context_length(64)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_rope_freq_base(5000.0)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    letters = alphabet()
    writer.add_token_list([*CONTROL, *letters, "he", "hel"])
    writer.add_token_types([3] * len(CONTROL) + [1] * 258)
    writer.add_token_merges(["h e", "he l"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    for name, values in weights().items():
        if name.endswith("q_proj.weight"):
            values = interleaved(values, HEADS)
        if name.endswith("k_proj.weight"):
            values = interleaved(values, KV_HEADS)
        stored = _stored_name(name)
        if values.ndim == 1:
            writer.add_tensor(stored, values)
        else:
            writer.add_tensor(stored, quantize(values, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _stored_name(name: str) -> str:
    if name == "model.embed_tokens.weight":
        return "token_embd.weight"
    if name == "model.norm.weight":
        return "output_norm.weight"
    _, _, depth, rest = name.split(".", 3)
    return f"blk.{depth}.{RENAMED[rest.removesuffix('.weight')]}.weight"


def tokenizer_json() -> dict:
    """The same vocabulary as `write_gguf`, in the `tokenizers` format."""
    letters = [*alphabet(), "he", "hel"]
    return {
        "version": "1.0",
        "added_tokens": [
            {
                "id": index,
                "content": text,
                "single_word": False,
                "lstrip": False,
                "rstrip": False,
                "normalized": False,
                "special": True,
            }
            for index, text in enumerate(CONTROL)
        ],
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
        "decoder": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
        "model": {
            "type": "BPE",
            "vocab": {text: index + len(CONTROL) for index, text in enumerate(letters)},
            "merges": [["h", "e"], ["he", "l"]],
        },
    }


def write_folder(path: Path, tensors: dict[str, np.ndarray] | None = None, **changes: object) -> Path:
    """A folder in the Hugging Face layout; `changes` go into config.json."""
    path.mkdir(parents=True, exist_ok=True)
    (path / "config.json").write_text(json.dumps(CONFIG | changes))
    (path / "tokenizer.json").write_text(json.dumps(tokenizer_json()))
    settings = {
        "eos_token": {"content": "<|im_end|>"},
        "bos_token": "<|im_start|>",
        "chat_template": "{{ bos_token }}x",
    }
    (path / "tokenizer_config.json").write_text(json.dumps(settings))
    (path / "generation_config.json").write_text(json.dumps({"eos_token_id": [2, 0]}))
    save_file(weights() if tensors is None else tensors, path / "model.safetensors")
    return path
