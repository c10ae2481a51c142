"""Networks of ours -> folders that others load: a Llama's, a Qwen2's, a Qwen3's or a Qwen3-MoE's, whichever fits.

Diffusion models are stored under the same names; their configuration then carries `mask_token_id` and `block_size`
(SDAR's fields), `is_causal` (RND1's), `shift_logits` (llama.cpp's) and `decoding_method`, the name of a preset;
`open_published` knows them by these.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from mezzotint.denoisers.layers.moe import Softmax
from mezzotint.denoisers.networks.llama import Decoder, DecoderConfig
from mezzotint.denoisers.networks.small_transformer import Transformer
from mezzotint.denoisers.published.tensor_names import llama
from mezzotint.errors import CheckpointError, ConfigError


@dataclass(frozen=True)
class ExportMarks:
    """What a configuration says beside the network's shape."""

    causal: bool
    mask_id: int | None = None
    """Of models that read masks; None for causal models that only continue text."""
    block: int | None = None
    """Columns of a block, for models that write block by block."""
    shift: bool = False
    """Of models that read masks: row i of the logits predicts column i + 1."""
    begin_id: int | None = None
    stop_ids: tuple[int, ...] = ()
    pad_id: int | None = None
    method: str = ""
    """The preset that decodes it unless asked otherwise; empty leaves it to the registry of families."""
    chat_template: str = ""
    """How messages become a prompt, in Jinja, where the model it was made from has one."""


KINDS = {
    "llama": "LlamaForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
    "qwen3_moe": "Qwen3MoeForCausalLM",
}


def write(decoder: Decoder, folder: Path, marks: ExportMarks, tokenizer: str = "") -> None:
    """Write config.json, model.safetensors and, where `tokenizer` has its JSON, tokenizer.json.

    Raises:
        ConfigError: a network that none of those layouts can hold.
        CheckpointError: the folder is in use, or the disk refused.
    """
    kind = kind_of(decoder.config)
    # experts one by one, as Qwen publishes them: transformers 4 knows no stacks, and 5 makes them itself
    names, tensors = llama(()), {}
    for ours, p in decoder.named_parameters():
        pieces = names(ours, tuple(p.shape))
        parts = p.detach().cpu().contiguous().view(len(pieces), *pieces[0].shape)
        tensors |= {piece.key: part for piece, part in zip(pieces, parts, strict=True)}
    document = _config(decoder, kind, marks)
    try:
        begin(folder)
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
        _text(folder / "config.json", document)
        _text(folder / "generation_config.json", {"eos_token_id": list(marks.stop_ids), "pad_token_id": marks.pad_id})
        if tokenizer:
            (folder / "tokenizer.json").write_text(tokenizer, encoding="utf-8")
            template = {"chat_template": marks.chat_template} if marks.chat_template else {}
            _text(folder / "tokenizer_config.json", {"tokenizer_class": "PreTrainedTokenizerFast", **template})
    except OSError as error:
        raise CheckpointError(f"cannot write {folder}: {error}") from None


def begin(folder: Path) -> None:
    """Make the folder of an export.

    Raises:
        CheckpointError: it is in use.
        OSError: the disk refused.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise CheckpointError(f"{folder} is not empty: name a folder that is new")


def kind_of(shape: DecoderConfig) -> str:
    """The `model_type` whose network this is.

    Raises:
        ConfigError: there is none.
    """
    router = None if shape.experts is None else shape.experts.router
    odd = {
        "heads that turn in part": shape.turned not in (None, shape.head_dim),
        "biases together with norms of heads": shape.qkv_bias and shape.qk_norm,
        "experts without norms of heads": shape.experts is not None and not shape.qk_norm,
        "a router other than a plain softmax": router is not None and not isinstance(router, Softmax),
        "a bias or a shared expert": shape.experts is not None and (shape.experts.biased or bool(shape.experts.shared)),
    }
    for what, present in odd.items():
        if present:
            raise ConfigError(f"cannot convert a network with {what}: no layout of {', '.join(KINDS)} holds it")
    if shape.experts is not None:
        return "qwen3_moe"
    return "qwen3" if shape.qk_norm else "qwen2" if shape.qkv_bias else "llama"


def _config(decoder: Decoder, kind: str, marks: ExportMarks) -> dict[str, Any]:
    shape = decoder.config
    document: dict[str, Any] = {
        "architectures": [KINDS[kind]],
        "model_type": kind,
        "vocab_size": shape.vocab,
        "hidden_size": shape.width,
        "intermediate_size": shape.inner,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "head_dim": shape.head_dim,
        "hidden_act": "silu",
        "attention_bias": False,
        "max_position_embeddings": shape.max_positions,
        "rms_norm_eps": shape.norm_eps,
        "rope_theta": shape.rope_theta,
        "tie_word_embeddings": shape.tied,
        "torch_dtype": str(decoder.embed.weight.dtype).removeprefix("torch."),
        "bos_token_id": marks.begin_id,
        "eos_token_id": list(marks.stop_ids) or None,
        "pad_token_id": marks.pad_id,
    }
    if shape.experts is not None and isinstance(shape.experts.router, Softmax):
        document |= {
            "num_experts": shape.experts.count,
            "num_experts_per_tok": shape.experts.router.chosen,
            "moe_intermediate_size": shape.experts.inner,
            "norm_topk_prob": shape.experts.router.renormalised,
            "decoder_sparse_step": 1,
            "mlp_only_layers": list(shape.dense),
        }
    if marks.mask_id is not None:
        document |= {"is_causal": marks.causal, "mask_token_id": marks.mask_id, "shift_logits": marks.shift}
        if marks.block is not None:
            document["block_size"] = marks.block
        if marks.method:
            document["decoding_method"] = marks.method
    return document


def _text(path: Path, document: dict[str, Any]) -> None:
    path.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


@torch.no_grad()
def decoder_of(network: nn.Module, columns: int) -> Decoder:
    """The same network as a `Decoder`, which shares no memory with it.

    Args:
        network: a `Transformer` that is not told the time.
        columns: the longest text it was trained on.

    Raises:
        ConfigError: another kind of network, or one that is told the time.
    """
    if not isinstance(network, Transformer) or network.time is not None:
        raise ConfigError("cannot convert this network: only transformers that are not told the time have a layout")
    vocab, width = network.embed.weight.shape
    first = network.blocks[0]
    inner = first.get_parameter("down.weight").shape[1]
    heads = width // network.head_width
    shape = DecoderConfig(
        vocab=vocab,
        width=width,
        inner=inner,
        layers=len(network.blocks),
        heads=heads,
        kv_heads=heads,
        head_dim=network.head_width,
        max_positions=columns,
        rope_theta=network.base,
        norm_eps=network.norm.eps,
        tied=False,
        qkv_bias=first.get_submodule("qkv").bias is not None,
    )
    decoder = Decoder(shape)
    decoder.load_state_dict(dict(_renamed(network, shape)))
    return decoder.eval()


def _renamed(network: Transformer, shape: DecoderConfig) -> Iterator[tuple[str, Tensor]]:
    yield "embed.weight", network.embed.weight
    yield "norm.weight", network.norm.weight
    yield "head.weight", network.head.weight
    for depth, block in enumerate(network.blocks):
        to = f"layers.{depth}."
        yield f"{to}ln1.weight", block.get_parameter("before_attention.weight")
        yield f"{to}ln2.weight", block.get_parameter("before_mlp.weight")
        yield f"{to}o.weight", block.get_parameter("out.weight")
        yield f"{to}down.weight", block.get_parameter("down.weight")
        for leaf in ("weight", "bias") if shape.qkv_bias else ("weight",):
            parts = block.get_parameter(f"qkv.{leaf}").chunk(3)
            yield from ((f"{to}{name}.{leaf}", part) for name, part in zip("qkv", parts, strict=True))
        gate, up = block.get_parameter("gate_up.weight").chunk(2)
        yield from ((f"{to}gate.weight", gate), (f"{to}up.weight", up))
