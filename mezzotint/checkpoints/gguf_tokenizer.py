"""The tokenizer of a GGUF file as a `tokenizers` document: byte-level BPE, pre-tokenizers by llama.cpp's names."""

import json
from pathlib import Path
from typing import Any

from mezzotint.checkpoints.base import TokenizerSpec
from mezzotint.checkpoints.byte_pairs import PRE_TOKENIZERS, added, byte_pairs
from mezzotint.errors import CheckpointError

CONTROL, USER_DEFINED = 3, 4
"""Values of `tokenizer.ggml.token_type`."""
ENDS = ("<|im_end|>", "<|endoftext|>", "<|eot_id|>", "<|end_of_text|>", "</s>")
"""Control tokens that end an answer wherever they exist, as in llama.cpp; GGUF has no generation_config to say so."""


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
    extra = [index for index, kind in enumerate(kinds) if kind in (CONTROL, USER_DEFINED)]
    tagged = [added(tokens[index], index, kinds[index] == CONTROL) for index in extra]
    document = byte_pairs(entry("pre"), ids, [tuple(merge.split(" ", 1)) for merge in merges], tagged)
    eos = [entry("eos_token_id"), entry("eot_token_id"), *(special.get(token) for token in ENDS)]
    bos = entry("bos_token_id")
    return TokenizerSpec(
        json=json.dumps(document, ensure_ascii=False),
        chat_template=metadata.get("tokenizer.chat_template", ""),
        special=special,
        eos_ids=tuple(dict.fromkeys(index for index in eos if index is not None)),
        bos=tokens[bos] if bos is not None and bos < len(tokens) else "",
    )
