"""Folders of tiny random models in the Hugging Face layout, with a word for every id."""

import json

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers

VOCAB, WIDTH, LAYERS, HEADS, KV, DIM, INNER = 64, 32, 2, 4, 2, 8, 48
STOP = 3

SHAPE = {
    "hidden_size": WIDTH,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "num_key_value_heads": KV,
    "head_dim": DIM,
    "intermediate_size": INNER,
    "vocab_size": VOCAB,
    "max_position_embeddings": 256,
    "rms_norm_eps": 1e-6,
    "rope_theta": 1e4,
    "tie_word_embeddings": False,
    "torch_dtype": "float32",
}


def tensors(seed, biased=False, normed=False):
    """Weights under the names of Llama, Qwen2 (`biased`) and Qwen3 (`normed`), far enough apart to decide."""
    made = torch.Generator().manual_seed(seed)

    def matrix(*shape):
        return torch.randn(*shape, generator=made) * shape[-1] ** -0.5

    found = {"model.embed_tokens.weight": torch.randn(VOCAB, WIDTH, generator=made)}
    for depth in range(LAYERS):
        at = f"model.layers.{depth}."
        for name, rows in (("q", HEADS * DIM), ("k", KV * DIM), ("v", KV * DIM)):
            found[f"{at}self_attn.{name}_proj.weight"] = matrix(rows, WIDTH)
            if biased:
                found[f"{at}self_attn.{name}_proj.bias"] = matrix(rows)
        found[f"{at}self_attn.o_proj.weight"] = matrix(WIDTH, HEADS * DIM)
        if normed:
            found |= {f"{at}self_attn.{name}_norm.weight": torch.ones(DIM) for name in "qk"}
        found |= {f"{at}mlp.{name}_proj.weight": matrix(INNER, WIDTH) for name in ("gate", "up")}
        found[f"{at}mlp.down_proj.weight"] = matrix(WIDTH, INNER)
        found |= {f"{at}{name}_layernorm.weight": torch.ones(WIDTH) for name in ("input", "post_attention")}
    head = 3 * matrix(VOCAB, WIDTH)
    head[STOP] = 0  # texts end, but not at once
    return found | {"model.norm.weight": torch.ones(WIDTH), "lm_head.weight": head}


def folder(to, config, seed=0, *, biased=False, normed=False, words=True):
    """Write config.json, model.safetensors and, with `words`, tokenizer.json; returns the folder."""
    to.mkdir(parents=True)
    (to / "config.json").write_text(json.dumps(SHAPE | config))
    save_file(tensors(seed, biased, normed), to / "model.safetensors")
    if words:
        made = Tokenizer(models.WordLevel({f"word{i}": i for i in range(VOCAB)}, unk_token="word0"))
        made.pre_tokenizer = pre_tokenizers.Whitespace()
        made.add_special_tokens([f"word{VOCAB - 1}"])
        made.save(str(to / "tokenizer.json"))
    return to


def louder(path, token, by):
    """Scale a row of the head, so that its token is among the likeliest here and there."""
    stored = load_file(path / "model.safetensors")
    stored["lm_head.weight"][token] *= by
    save_file(stored, path / "model.safetensors")
    return path
