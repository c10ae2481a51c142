"""GGUF files of llama.cpp as checkpoints: names, configuration, and the stored order of rotary rows undone."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mezzotint.checkpoints.base import BLOCK, Checkpoint, QuantisedBlocks
from mezzotint.checkpoints.gguf_header import Header, TensorEntry, read_header
from mezzotint.checkpoints.gguf_tokenizer import tokenizer_spec
from mezzotint.errors import CheckpointError

ARCHITECTURES = {"llama": "llama", "qwen2": "qwen2", "qwen3": "qwen3"}
"""GGUF architecture -> Hugging Face `model_type`."""
INTERLEAVED = {"llama"}
"""Architectures whose converter reorders the rows of q and k for interleaved rotation."""

WHOLE = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}
PER_LAYER = {
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def open_gguf(path: Path, name: str) -> Checkpoint:
    """Open a GGUF file.

    Raises:
        CheckpointError: unreadable, damaged, truncated, or of an architecture or tokenizer this library does not know.
    """
    header = read_header(path)
    architecture = header.metadata.get("general.architecture")
    if architecture not in ARCHITECTURES:
        known = ", ".join(sorted(ARCHITECTURES))
        raise CheckpointError(f"{path} holds a model of architecture {architecture!r}: only {known} are supported")
    config = _config(path, header, ARCHITECTURES[architecture])
    heads = {".attn_q.": config["num_attention_heads"], ".attn_k.": config["num_key_value_heads"]}
    tensors = {}
    for stored, entry in header.tensors.items():
        turned = (
            next((count for part, count in heads.items() if part in stored), 0) if architecture in INTERLEAVED else 0
        )
        if turned and entry.shape[0] % (2 * turned):
            raise CheckpointError(f"{path}: {stored} has {entry.shape[0]} rows, not a multiple of 2 x {turned} heads")
        tensors[_translated(stored)] = GGUFTensor(
            path, header, entry, rows_of(entry.shape[0], turned) if turned else None
        )
    return Checkpoint(name, path, config, tokenizer_spec(path, header.metadata), tensors)


def rows_of(count: int, heads: int) -> np.ndarray:
    """Int[count]: for each row of a rotate-half matrix, the row of the interleaved one it is stored in.

    Within a head the converter writes component i of half h to row 2 i + h.
    """
    stored = np.arange(count).reshape(heads, count // heads // 2, 2)
    return stored.swapaxes(1, 2).reshape(count)


@dataclass(frozen=True, slots=True)
class GGUFTensor:
    """A tensor in a mapped GGUF file; `rows` is the order to read its rows in, None for the stored order."""

    file: Path
    header: Header
    entry: TensorEntry
    rows: np.ndarray | None

    @property
    def shape(self) -> tuple[int, ...]:
        return self.entry.shape

    @property
    def dtype(self) -> str:
        from gguf.constants import GGMLQuantizationType

        return GGMLQuantizationType(self.entry.kind).name.lower()

    def read(self) -> np.ndarray:
        """Its numbers in float32, in the shape that it has in a Hugging Face layout.

        Raises:
            CheckpointError: a storage type that cannot be read.
        """
        blocks = self.blocks()
        if blocks is not None:
            return blocks.dequantised()
        from gguf.constants import GGMLQuantizationType
        from gguf.quants import dequantize

        try:
            values = dequantize(self._raw(), GGMLQuantizationType(self.entry.kind))
        except NotImplementedError as error:
            raise CheckpointError(
                f"{self.file} stores weights as {self.dtype}, which cannot be read: {error}"
            ) from error
        values = values.reshape(self.shape).astype(np.float32, copy=True)
        return values if self.rows is None else values[self.rows]

    def blocks(self) -> QuantisedBlocks | None:
        if self.dtype not in ("q4_1", "q8_0") or len(self.shape) != 2:
            return None
        rows, columns = self.shape
        raw = self._raw().reshape(rows, columns // BLOCK, -1)
        raw = raw if self.rows is None else raw[self.rows]
        if self.dtype == "q8_0":
            codes = raw[..., 2:].view(np.int8).reshape(rows, columns)
            return QuantisedBlocks("q8_0", _halves(raw, 0), None, np.ascontiguousarray(codes))
        packed = raw[..., 4:]
        codes = np.concatenate([packed & 15, packed >> 4], axis=-1).reshape(rows, columns)
        return QuantisedBlocks("q4_1", _halves(raw, 0), _halves(raw, 2), codes)

    def _raw(self) -> np.ndarray:
        """The stored bytes, UInt8[rows, bytes of a row], a view of the mapped file."""
        raw = np.frombuffer(self.header.data, np.uint8, self.entry.size, self.entry.start)
        return raw.reshape(self.shape[0], -1)


def _halves(raw: np.ndarray, at: int) -> np.ndarray:
    """Half-precision numbers at byte `at` of every block, as Float32[rows, blocks]."""
    return np.ascontiguousarray(raw[..., at : at + 2]).view(np.float16)[..., 0].astype(np.float32)


def _translated(stored: str) -> str:
    """Hugging Face name of a GGUF tensor; an unknown name stays as it is, for the loader to refuse."""
    if stored in WHOLE:
        return WHOLE[stored]
    parts = stored.split(".")
    if len(parts) == 4 and parts[0] == "blk" and parts[2] in PER_LAYER:
        return f"model.layers.{parts[1]}.{PER_LAYER[parts[2]]}.{parts[3]}"
    return stored


def _config(path: Path, header: Header, model_type: str) -> dict[str, Any]:
    """Hugging Face configuration keys from GGUF metadata."""
    metadata = header.metadata
    prefix = metadata["general.architecture"] + "."

    def need(key: str) -> Any:
        if prefix + key not in metadata:
            raise CheckpointError(
                f"{path} lacks the metadata {prefix + key}: it was not written by llama.cpp's converter"
            )
        return metadata[prefix + key]

    heads = need("attention.head_count")
    config = {
        "model_type": model_type,
        "hidden_size": need("embedding_length"),
        "intermediate_size": need("feed_forward_length"),
        "num_hidden_layers": need("block_count"),
        "num_attention_heads": heads,
        "num_key_value_heads": metadata.get(prefix + "attention.head_count_kv", heads),
        "head_dim": metadata.get(prefix + "attention.key_length", need("embedding_length") // heads),
        "vocab_size": header.tensors["token_embd.weight"].shape[0] if "token_embd.weight" in header.tensors else 0,
        "max_position_embeddings": need("context_length"),
        "rope_theta": float(metadata.get(prefix + "rope.freq_base", 10000.0)),
        # stored as a 32-bit float; the seven digits it can hold give back the number that was written
        "rms_norm_eps": float(f"{need('attention.layer_norm_rms_epsilon'):.6e}"),
        "tie_word_embeddings": "output.weight" not in header.tensors,
    }
    config |= dict(_ids(metadata))
    if metadata.get(prefix + "rope.scaling.type", "none") != "none":
        config["rope_scaling"] = {"rope_type": metadata[prefix + "rope.scaling.type"]}
    return config


def _ids(metadata: dict[str, Any]) -> Iterator[tuple[str, int]]:
    for theirs, ours in (("bos", "bos"), ("eos", "eos"), ("padding", "pad"), ("mask", "mask")):
        if f"tokenizer.ggml.{theirs}_token_id" in metadata:
            yield f"{ours}_token_id", metadata[f"tokenizer.ggml.{theirs}_token_id"]
