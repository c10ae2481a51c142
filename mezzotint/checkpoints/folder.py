"""Folders in the Hugging Face layout: config.json, safetensors (one file or an index of shards), a tokenizer."""

import json
import mmap
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mezzotint.checkpoints.base import Checkpoint, QuantisedBlocks, TokenizerSpec
from mezzotint.checkpoints.byte_pairs import kept_apart
from mezzotint.errors import CheckpointError

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
STORED = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}
"""NumPy's type for each safetensors type read here; bfloat16 is widened by hand, NumPy has none."""
PICKLES = (".bin", ".pt", ".pth", ".ckpt")
"""Endings of weights that run code when they are read."""
NO_TOKENIZER = TokenizerSpec(json="", chat_template="", special={}, eos_ids=())
LONGEST_HEADER = 100_000_000
"""Bytes; the limit of the safetensors format itself."""


def open_folder(path: Path, name: str) -> Checkpoint:
    """Open a folder of weights.

    Raises:
        CheckpointError: a file is missing, damaged or truncated.
    """
    config = _normalised(path, _json(path / "config.json"))
    return Checkpoint(name, path, config, _tokenizer(path, config), _tensors(path), _generation(path))


def open_published(path: Path, name: str) -> Checkpoint:
    """Open a folder of any architecture: the configuration stays as it is stored, the tokenizer may be missing.

    Raises:
        CheckpointError: a file is missing, damaged or truncated.
    """
    config = _json(path / "config.json")
    return Checkpoint(name, path, config, _tokenizer(path, config, needed=False), _tensors(path), _generation(path))


@dataclass(frozen=True, slots=True)
class SafeTensor:
    """A tensor in a mapped safetensors file."""

    key: str
    file: Path
    data: mmap.mmap
    shape: tuple[int, ...]
    dtype: str
    start: int
    size: int
    """Bytes."""

    def kind(self) -> np.dtype:
        """NumPy's type of the values as they are stored, UInt16 for bfloat16.

        Raises:
            CheckpointError: a type that cannot be read.
        """
        if self.dtype.upper() not in STORED:
            raise CheckpointError(
                f"{self.file} stores {self.key} as {self.dtype}: only {', '.join(STORED)} can be read"
            )
        return np.dtype(STORED[self.dtype.upper()])

    def read(self) -> np.ndarray:
        count = int(np.prod(self.shape))
        values = np.frombuffer(self.data, self.kind(), count, self.start).reshape(self.shape)
        if self.dtype == "bf16":
            return (values.astype(np.uint32) << 16).view(np.float32)
        return values.astype(np.float32)

    def blocks(self) -> QuantisedBlocks | None:
        return None

    def rows(self, start: int, stop: int) -> np.ndarray:
        """The outermost rows as they are stored, bfloat16 as UInt16; a new array, and no page of the map is touched."""
        inner, kind = int(np.prod(self.shape[1:])), self.kind()
        begin = self.start + start * inner * kind.itemsize
        values = np.fromfile(self.file, kind, (stop - start) * inner, offset=begin)
        return values.reshape(stop - start, *self.shape[1:])


def read_safetensors(path: Path) -> dict[str, SafeTensor]:
    """Map a safetensors file; every tensor is checked to lie within it.

    Raises:
        CheckpointError: missing, damaged or truncated.
    """
    try:
        with path.open("rb") as file:
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except (OSError, ValueError) as error:
        raise CheckpointError(f"cannot read {path}: {error}") from error
    length = int.from_bytes(data[:8], "little")
    if len(data) < 8 or not 2 <= length <= min(LONGEST_HEADER, len(data) - 8):
        raise CheckpointError(f"{path} is not a safetensors file, or a truncated one: fetch it again")
    try:
        header = json.loads(data[8 : 8 + length])
        header.pop("__metadata__", None)
        rows = {key: _row(row) for key, row in header.items()}
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{path} has a damaged safetensors header: fetch it again") from error
    base = 8 + length
    for key, (dtype, shape, start, stop) in rows.items():
        if base + stop > len(data):
            raise CheckpointError(
                f"{path} is truncated: {key} ends at byte {base + stop} and the file has {len(data)}: fetch it again"
            )
        if dtype.upper() in STORED and int(np.prod(shape)) * np.dtype(STORED[dtype.upper()]).itemsize != stop - start:
            raise CheckpointError(
                f"{path} is damaged: {key} has shape {shape} and {stop - start} bytes: fetch it again"
            )
    return {
        key: SafeTensor(key, path, data, shape, dtype, base + start, stop - start)
        for key, (dtype, shape, start, stop) in rows.items()
    }


def _row(row: Any) -> tuple[str, tuple[int, ...], int, int]:
    """Type, shape, and first and last byte of a tensor; ValueError, KeyError or TypeError for what is none."""
    shape, (start, stop) = tuple(row["shape"]), row["data_offsets"]
    if not all(isinstance(one, int) and one >= 0 for one in (*shape, start, stop)) or start > stop:
        raise ValueError("sizes and places are whole numbers")
    return row["dtype"].lower(), shape, start, stop


def _tensors(path: Path) -> dict[str, SafeTensor]:
    if not (path / INDEX).exists():
        if not (path / WEIGHTS).exists():
            pickles = sorted(file.name for file in path.iterdir() if file.suffix in PICKLES)
            if pickles:
                raise CheckpointError(
                    f"{path / pickles[0]} is a pickle, which can run code when it is read: convert it to {WEIGHTS}"
                )
            raise CheckpointError(f"{path} has neither {WEIGHTS} nor {INDEX}: pass a folder that holds a whole model")
        return read_safetensors(path / WEIGHTS)
    index = _json(path / INDEX)
    placed = index.get("weight_map")
    if not isinstance(placed, dict) or not all(isinstance(shard, str) for shard in placed.values()):
        raise CheckpointError(f"{path / INDEX} has no weight_map that names files: fetch it again")
    shards = {shard: read_safetensors(path / Path(shard).name) for shard in sorted(set(placed.values()))}
    tensors = {}
    for key, shard in placed.items():
        if key not in shards[shard]:
            raise CheckpointError(f"{path / shard} lacks {key}, which {INDEX} promises: fetch it again")
        tensors[key] = shards[shard][key]
    for shard, held in shards.items():
        for key in held:
            if placed.get(key) != shard:
                raise CheckpointError(f"{path / shard} holds {key}, which {INDEX} does not place there: fetch it again")
    metadata = index.get("metadata")
    promised = metadata.get("total_size") if isinstance(metadata, dict) else None
    held = sum(tensor.size for tensor in tensors.values())
    if promised is not None and promised != held:
        raise CheckpointError(f"{path / INDEX} promises {promised} bytes and the shards hold {held}: fetch it again")
    return tensors


def _json(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(f"{path} is missing: pass a folder that holds a whole model") from None
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"cannot read {path}: {error}") from error
    if not isinstance(document, dict):
        raise CheckpointError(f"{path} does not hold a JSON object: fetch it again")
    return document


def _normalised(path: Path, config: dict[str, Any]) -> dict[str, Any]:
    """The configuration with derived fields filled in; newer files keep rope settings in `rope_parameters`."""
    config = dict(config)
    rope = config.pop("rope_parameters", None) or {}
    config.setdefault("rope_theta", rope.get("rope_theta", 10000.0))
    if rope.get("rope_type", "default") != "default":
        config.setdefault("rope_scaling", rope)
    try:
        config.setdefault("num_key_value_heads", config["num_attention_heads"])
        if config.get("head_dim") is None:
            config["head_dim"] = config["hidden_size"] // config["num_attention_heads"]
    except KeyError as error:
        raise CheckpointError(
            f"{path / 'config.json'} lacks {error.args[0]}: it is not a decoder's configuration"
        ) from None
    config.setdefault("tie_word_embeddings", False)
    return config


def _generation(path: Path) -> dict[str, Any]:
    return _json(path / "generation_config.json") if (path / "generation_config.json").exists() else {}


def _tokenizer(path: Path, config: dict[str, Any], *, needed: bool = True) -> TokenizerSpec:
    settings = _json(path / "tokenizer_config.json") if (path / "tokenizer_config.json").exists() else {}
    whole = (path / "tokenizer.json").exists()
    document = None if whole else kept_apart(path, settings)
    if document is None:
        if not whole and not needed:
            return NO_TOKENIZER
        document = _json(path / "tokenizer.json")
    generation = _generation(path)
    template = settings.get("chat_template") or ""
    if isinstance(template, list):
        named = (row for row in template if isinstance(row, dict) and row.get("name") == "default")
        template = next((row.get("template") for row in named), "")
    if (path / "chat_template.jinja").exists():
        template = (path / "chat_template.jinja").read_text(encoding="utf-8")
    try:
        rows = [(str(row["content"]), int(row["id"]), row.get("special")) for row in document.get("added_tokens", [])]
        added = {content: index for content, index, _ in rows}
        special = {content: index for content, index, flag in rows if flag}
        if not isinstance(document.get("model"), dict):
            raise TypeError("it has no model")
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(f"{path} has a damaged tokenizer.json ({error}): fetch it again") from None
    ends = [
        *_list(generation.get("eos_token_id")),
        *_list(config.get("eos_token_id")),
        added.get(_text(settings, "eos")),
    ]
    return TokenizerSpec(
        json=json.dumps(document, ensure_ascii=False),
        chat_template=template if isinstance(template, str) else "",
        special=special,
        eos_ids=tuple(dict.fromkeys(index for index in ends if isinstance(index, int) and index >= 0)),
        bos=_text(settings, "bos"),
        named={role: added[_text(settings, role)] for role in ("mask", "pad") if _text(settings, role) in added},
    )


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _text(settings: dict[str, Any], role: str) -> str:
    """A special token of tokenizer_config.json: a string, an object with `content`, or absent."""
    token = settings.get(f"{role}_token")
    text = token.get("content") if isinstance(token, dict) else token
    return text if isinstance(text, str) else ""
