"""Open a published diffusion model and decode one prompt by several presets.

python examples/published_model.py PATH_OF_DREAM dream-ref dream-fast

Without a path it makes a folder in Dream's layout with random weights: its text means nothing, all else is the same.
"""

import json
import sys
import tempfile
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers

import mezzotint

VOCAB, WIDTH, INNER, LAYERS, HEADS = 64, 32, 48, 2, 4


def random_folder(to: Path) -> Path:
    """A folder with config.json, model.safetensors and tokenizer.json, as it lies on the hub."""
    config = {"model_type": "Dream", "vocab_size": VOCAB, "hidden_size": WIDTH, "intermediate_size": INNER}
    config |= {"rope_theta": 1e4, "tie_word_embeddings": False}
    config |= {"num_hidden_layers": LAYERS, "num_attention_heads": HEADS, "num_key_value_heads": HEADS}
    config |= {"mask_token_id": VOCAB - 1, "eos_token_id": 3, "rms_norm_eps": 1e-6, "max_position_embeddings": 256}
    (to / "config.json").write_text(json.dumps(config))
    shapes = dict.fromkeys(("model.embed_tokens.weight", "lm_head.weight"), (VOCAB, WIDTH))
    shapes["model.norm.weight"] = (WIDTH,)
    for layer in (f"model.layers.{depth}." for depth in range(LAYERS)):
        shapes |= {f"{layer}self_attn.{name}_proj.weight": (WIDTH, WIDTH) for name in "qkvo"}
        shapes |= {f"{layer}self_attn.{name}_proj.bias": (WIDTH,) for name in "qkv"}
        shapes |= {f"{layer}mlp.{name}_proj.weight": (INNER, WIDTH) for name in ("gate", "up")}
        shapes |= {f"{layer}mlp.down_proj.weight": (WIDTH, INNER)}
        shapes |= {f"{layer}{name}_layernorm.weight": (WIDTH,) for name in ("input", "post_attention")}
    torch.manual_seed(0)
    weights = {name: torch.randn(shape) * shape[-1] ** -0.5 for name, shape in shapes.items()}
    save_file(weights, to / "model.safetensors")
    words = Tokenizer(models.WordLevel({f"word{i}": i for i in range(VOCAB)}, unk_token="word0"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.add_special_tokens([f"word{VOCAB - 1}"])
    words.save(str(to / "tokenizer.json"))
    return to


def main(path: str = "", *presets: str) -> None:
    """Print what is in the folder, and an answer by each preset."""
    with tempfile.TemporaryDirectory() as folder:
        model = mezzotint.load(path or random_folder(Path(folder)))
        print(model)
        for preset in presets or ("dream-ref", "dream-fast"):
            answer = model.generate("word5 word6", preset=preset, max_new_tokens=32)
            print(f"{preset}: {answer.forwards} passes: {answer.text}")


if __name__ == "__main__":
    main(*sys.argv[1:])
