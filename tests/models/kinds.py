"""One tiny model of every kind that `mezzotint.load` opens."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import gguf
import numpy as np
import tiny_folders
import torch
from safetensors.torch import save_file
from tiny_folders import STOP

sys.path.insert(0, str(Path(__file__).parents[1] / "checkpoints"))
from tiny_files import CONTROL, DIM, HEADS, INNER, KV_HEADS, WIDTH, tokenizer_json, weights, write_folder, write_gguf

from mezzotint.data.characters import Characters
from mezzotint.denoisers.hybrid.adapter_file import save_adapter
from mezzotint.denoisers.networks.drafter import Drafter, DrafterShape
from mezzotint.denoisers.networks.small_transformer import TransformerConfig
from mezzotint.families import BD3LM, MDLM, SED, UDLM
from mezzotint.families.ar import AR
from mezzotint.families.edit_flow import EditFlow
from mezzotint.models.trained import TrainedConfig, TrainedModel

TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
MASK = 63


def causal(to: Path, *, chat: bool = True, **config) -> Path:
    """A causal folder with bytes as tokens."""
    folder = write_folder(to, max_position_embeddings=256, **config)
    document = tokenizer_json()
    document["model"]["vocab"] |= {text: index for index, text in enumerate(CONTROL)}
    (folder / "tokenizer.json").write_text(json.dumps(document))
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps(settings | {"chat_template": TEMPLATE if chat else ""}))
    return folder


def hybrid(to: Path) -> Path:
    folder, values = causal(to), weights()
    shape = DrafterShape(WIDTH, INNER, HEADS, KV_HEADS, DIM, 5000.0, 1e-5, layers=1, taps=(1, 2), block=4, mixer=32)
    embedding, norm = (torch.from_numpy(values[f"model.{name}.weight"]) for name in ("embed_tokens", "norm"))
    torch.manual_seed(0)
    save_adapter(
        Drafter(shape, embedding, norm, torch.arange(3, len(embedding))), folder / "adapter.safetensors", "t", {}
    )
    return folder


def gguf_file(to: Path) -> Path:
    to.mkdir()
    write_gguf(to / "tiny.gguf", gguf.GGMLQuantizationType.Q8_0)
    return to / "tiny.gguf"


def peft(to: Path, base: Path) -> Path:
    """A low-rank adapter on one matrix of a causal folder."""
    to.mkdir()
    stored = weights()["model.layers.0.self_attn.q_proj.weight"]
    rng = np.random.default_rng(0)
    a, b = rng.normal(0, 0.3, (4, stored.shape[1])), rng.normal(0, 0.3, (stored.shape[0], 4))
    at = "base_model.model.model.layers.0.self_attn.q_proj"
    pair = {f"{at}.lora_A.weight": torch.tensor(a).float(), f"{at}.lora_B.weight": torch.tensor(b).float()}
    save_file(pair, to / "adapter_model.safetensors")
    settings = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "base_model_name_or_path": str(base)}
    (to / "adapter_config.json").write_text(json.dumps(settings | {"target_modules": ["q_proj"], "bias": "none"}))
    return to


def published(**config) -> Callable[[Path], Path]:
    options = {name: config.pop(name) for name in ("biased", "normed") if name in config}
    return lambda to: tiny_folders.folder(to, config | {"eos_token_id": STOP}, **options)


DREAM = {"model_type": "Dream", "architectures": ["DreamModel"], "mask_token_id": MASK, "biased": True}
SDAR = {
    "model_type": "sdar",
    "architectures": ["SDARForCausalLM"],
    "mask_token_id": MASK,
    "block_size": 4,
    "normed": True,
}
TURNED = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "mask_token_id": MASK, "shift_logits": True}


def adapted(to: Path) -> Path:
    """What `mezzotint train smollm2-dream` exports: bidirectional, and with the chat template of its base."""
    folder = tiny_folders.folder(to, TURNED | {"is_causal": False, "eos_token_id": STOP})
    template = "{% for m in messages %}{{ m.content }}{% endfor %}"
    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": template}))
    return folder


def trained(family) -> Callable[[Path], Path]:
    def made(to: Path) -> Path:
        torch.manual_seed(0)
        timed = family.kind in ("sed", "udlm", "edit_flow")
        network = TransformerConfig(width=32, layers=1, heads=2, timed=timed)
        shape = TrainedConfig(network=network, family=family, length=16)
        (to / "export").mkdir(parents=True)
        TrainedModel.fresh(shape, Characters.of("the cat sat on a mat")).save(to / "export")
        (to / "run.json").write_text("{}")
        return to

    return made


KINDS: dict[str, Callable[[Path], Path]] = {
    "hybrid": hybrid,
    "causal folder": causal,
    "causal without a template": lambda to: causal(to, chat=False),
    "gguf": gguf_file,
    "peft adapter": lambda to: peft(to, causal(to.with_name("base"))),
    "dream": published(**DREAM),
    "sdar": published(**SDAR),
    "dreamon": published(**DREAM, expand_token_id=62),
    "idlm": published(**TURNED, is_causal=True),
    "exported dream": adapted,
    "mdlm run": trained(MDLM()),
    "bd3lm run": trained(BD3LM(block=4)),
    "udlm run": trained(UDLM()),
    "sed run": trained(SED()),
    "edit-flow run": trained(EditFlow()),
    "ar run": trained(AR()),
}
CAUSAL = ("hybrid", "causal folder", "causal without a template", "gguf", "peft adapter")
