"""The tokenizer of a GGUF file as a `tokenizers` document: byte-level BPE, pre-tokenizers by llama.cpp's names."""

import json
from pathlib import Path
from typing import Any

from mezzotint.checkpoints.base import TokenizerSpec
from mezzotint.errors import CheckpointError

CONTROL, USER_DEFINED = 3, 4
"""Values of `tokenizer.ggml.token_type`."""
ENDS = ("<|im_end|>", "<|endoftext|>", "<|eot_id|>", "<|end_of_text|>", "</s>")
"""Control tokens that end an answer wherever they exist, as in llama.cpp; GGUF has no generation_config to say so."""

_BYTES = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
_GPT2 = {**_BYTES, "use_regex": True}


def _split(pattern: str) -> dict[str, Any]:
    return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}


def _sequence(*parts: dict[str, Any]) -> dict[str, Any]:
    return {"type": "Sequence", "pretokenizers": list(parts)}


_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{digits}"
    r"| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
PRE_TOKENIZERS: dict[str, dict[str, Any]] = {
    "gpt-2": _GPT2,
    "smollm": _sequence({"type": "Digits", "individual_digits": True}, _GPT2),
    "qwen2": _sequence(_split(_WORDS.format(digits="")), _BYTES),
    "llama-bpe": _sequence(_split(_WORDS.format(digits="{1,3}")), _BYTES),
}
NORMALIZERS = {"qwen2": {"type": "NFC"}}


def tokenizer_spec(path: Path, metadata: dict[str, Any]) -> TokenizerSpec:
    """Build the tokenizer a GGUF file describes.

    Raises:
        CheckpointError: the file has no tokenizer, or one that is not byte-level BPE with a known pre-tokenizer.
    """

    def entry(key: str) -> Any:
        return metadata.get("tokenizer.ggml." + key)

    tokens, merges = entry("tokens"), entry("merges")
    if entry("model") != "gpt2" or tokens is None or merges is None or entry("pre") not in PRE_TOKENIZERS:
        known = ", ".join(PRE_TOKENIZERS)
        raise CheckpointError(
            f"{path} has a tokenizer of type {entry('model')!r} with pre-tokenizer {entry('pre')!r}: only "
            f"byte-level BPE (gpt2) with {known} can be read from a GGUF file; open the model's "
            "folder with its tokenizer.json instead"
        )
    kinds = entry("token_type") or [1] * len(tokens)
    ids = {token: index for index, token in enumerate(tokens)}
    special = {token: index for index, (token, kind) in enumerate(zip(tokens, kinds, strict=True)) if kind == CONTROL}
    added = [index for index, kind in enumerate(kinds) if kind in (CONTROL, USER_DEFINED)]
    document = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [_added(tokens[index], index, kinds[index] == CONTROL) for index in added],
        "normalizer": NORMALIZERS.get(entry("pre")),
        "pre_tokenizer": PRE_TOKENIZERS[entry("pre")],
        "post_processor": None,
        "decoder": {**_BYTES, "use_regex": True},
        "model": _bpe(ids, merges),
    }
    eos = [entry("eos_token_id"), entry("eot_token_id"), *(special.get(token) for token in ENDS)]
    bos = entry("bos_token_id")
    return TokenizerSpec(
        json=json.dumps(document, ensure_ascii=False),
        chat_template=metadata.get("tokenizer.chat_template", ""),
        special=special,
        eos_ids=tuple(dict.fromkeys(index for index in eos if index is not None)),
        bos=tokens[bos] if bos is not None and bos < len(tokens) else "",
    )


def _added(content: str, index: int, special: bool) -> dict[str, Any]:
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    return {"id": index, "content": content, **flags, "special": special}


def _bpe(ids: dict[str, int], merges: list[str]) -> dict[str, Any]:
    """A BPE model; merges are pairs joined by a space in GGUF, and no symbol of a byte-level alphabet is a space."""
    return {
        "type": "BPE",
        "dropout": None,
        "unk_token": None,
        "continuing_subword_prefix": "",
        "end_of_word_suffix": "",
        "fuse_unk": False,
        "byte_fallback": False,
        "ignore_merges": False,
        "vocab": ids,
        "merges": [pair.split(" ", 1) for pair in merges],
    }
