"""A tiny model that chats, for the command lines beside it."""

import json
import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parent.parent / "checkpoints"))
from tiny_files import CONTROL, DIM, HEADS, INNER, KV_HEADS, WIDTH, tokenizer_json, weights, write_folder

from mezzotint.checkpoints import TokenizerSpec
from mezzotint.data.tokenizer import Tokenizer
from mezzotint.denoisers.hybrid.adapter_file import save_adapter
from mezzotint.denoisers.networks.drafter import Drafter, DrafterShape

TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory) -> Path:
    """A folder with random weights, a random drafter, a byte-level vocabulary and a context of 256 tokens."""
    folder = write_folder(tmp_path_factory.mktemp("models") / "tiny", max_position_embeddings=256)
    (folder / "tokenizer.json").write_text(json.dumps(document()))
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps(settings | {"chat_template": TEMPLATE}))
    values = weights()
    shape = DrafterShape(WIDTH, INNER, HEADS, KV_HEADS, DIM, 5000.0, 1e-5, layers=1, taps=(1, 2), block=4, mixer=32)
    embedding, norm = (torch.from_numpy(values[f"model.{name}.weight"]) for name in ("embed_tokens", "norm"))
    torch.manual_seed(0)
    drafter = Drafter(shape, embedding, norm, torch.arange(3, len(embedding)))
    save_adapter(drafter, folder / "adapter.safetensors", "tiny", {})
    return folder


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    """Bytes as tokens, so that every character beyond ASCII is several of them."""
    special = {text: index for index, text in enumerate(CONTROL)}
    return Tokenizer.from_spec(TokenizerSpec(json.dumps(document()), TEMPLATE, special, (2,), "<|im_start|>"))


def document() -> dict:
    """The tiny vocabulary with its control tokens inside, so that they keep the ids they are given."""
    whole = tokenizer_json()
    whole["model"]["vocab"] |= {text: index for index, text in enumerate(CONTROL)}
    return whole
