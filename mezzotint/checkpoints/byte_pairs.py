"""Byte-level BPE as a `tokenizers` document, from a vocabulary and its merges; pre-tokenizers by llama.cpp's names."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mezzotint.errors import CheckpointError

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
CLASSES = {"gpt2": "gpt-2", "qwen2": "qwen2", "dream": "qwen2"}
"""Pre-tokenizers by the beginning of `tokenizer_class` in tokenizer_config.json."""
VOCABULARY, MERGES, ADDED = "vocab.json", "merges.txt", "added_tokens.json"


def byte_pairs(
    kind: str, ids: Mapping[str, int], merges: Iterable[Sequence[str]], tagged: list[dict[str, Any]]
) -> dict[str, Any]:
    """The document of one of `PRE_TOKENIZERS`; `tagged` are the tokens that are not made by merging."""
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": tagged,
        "normalizer": NORMALIZERS.get(kind),
        "pre_tokenizer": PRE_TOKENIZERS[kind],
        "post_processor": None,
        "decoder": {**_BYTES, "use_regex": True},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": "",
            "end_of_word_suffix": "",
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": dict(ids),
            "merges": [list(pair) for pair in merges],
        },
    }


def added(content: str, index: int, special: bool) -> dict[str, Any]:
    """A token that is found in a text as it stands; no text contains it if it is special."""
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    return {"id": index, "content": content, **flags, "special": special}


def kept_apart(folder: Path, settings: Mapping[str, Any]) -> dict[str, Any] | None:
    """The document of a folder with vocab.json and merges.txt, such as Dream's; None without them or a known class.

    Args:
        folder: where they are.
        settings: what tokenizer_config.json says.

    Raises:
        CheckpointError: a file that is damaged.
    """
    named = str(settings.get("tokenizer_class", "")).lower()
    kind = next((kind for start, kind in CLASSES.items() if named.startswith(start)), None)
    if kind is None or not all((folder / name).is_file() for name in (VOCABULARY, MERGES)):
        return None
    try:
        ids: dict[str, int] = json.loads((folder / VOCABULARY).read_text(encoding="utf-8"))
        lines = (folder / MERGES).read_text(encoding="utf-8").split("\n")
        merges = [
            (one, other) for one, other in (line.split(" ") for line in lines if line and line[:9] != "#version:")
        ]
        extra = json.loads((folder / ADDED).read_text(encoding="utf-8")) if (folder / ADDED).is_file() else {}
        tagged = {index: added(content, index, special=True) for content, index in extra.items()}
        for index, row in (settings.get("added_tokens_decoder") or {}).items():
            tagged[int(index)] = added(row["content"], int(index), bool(row.get("special")))
        known = {row["content"] for row in tagged.values()}
        for role in ("bos", "eos", "pad", "unk", "mask"):
            token = settings.get(f"{role}_token")
            text = token.get("content") if isinstance(token, dict) else token
            if text in ids and text not in known:
                tagged[ids[text]] = added(text, ids[text], special=True)
        return byte_pairs(kind, ids, merges, [tagged[index] for index in sorted(tagged)])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"cannot read the vocabulary in {folder} ({error}): fetch its files again") from error
