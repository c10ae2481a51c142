"""Causal checkpoints on their way to diffusion models: room for a mask, and a network that objectives can train."""

import json
from dataclasses import replace
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from mezzotint.checkpoints import Checkpoint, TokenizerSpec
from mezzotint.denoisers.load import load_decoder
from mezzotint.denoisers.networks.llama import Decoder
from mezzotint.denoisers.published.open import TrainableNetwork
from mezzotint.errors import CheckpointError, ConfigError
from mezzotint.layouts import Inputs

M = TypeVar("M", nn.Embedding, nn.Linear)

MASK = "<|mask|>"
"""The text of a mask that the vocabulary had no token for."""


class TrainableDecoder(TrainableNetwork):
    """A decoder under training, asked for single columns before its head."""

    @property
    def head(self) -> nn.Linear:
        """D -> V."""
        return self.network.decoder.head

    def hidden_at(self, inputs: Inputs, t: Tensor | None, rows: Tensor) -> Tensor:
        """Float[n, D] that predict the columns Long[n] `rows`, counted through [B, L] without a clean half.

        With a shift a column is predicted by the one before it: no row may be the first of a text.
        """
        columns = inputs.x.shape[1] // (1 if inputs.attend.twin is None else 2)
        h = self.network.hidden(inputs, t)[:, :columns]
        return h.reshape(-1, h.shape[-1]).index_select(0, rows - self.network.lookback)


def mask_of(checkpoint: Checkpoint, named: str = "") -> int:
    """The id that will be the mask.

    The token that `named` names; else the tokenizer's own mask; else the id behind all tokens, whose row many
    embeddings have as padding and others get.

    Raises:
        ConfigError: the vocabulary has no such control token.
    """
    spec = checkpoint.tokenizer
    if named:
        if named not in spec.special:
            known = ", ".join(sorted(spec.special)) or "none"
            raise ConfigError(f"{checkpoint.name} has no control token {named!r} to be the mask: it has {known}")
        return spec.special[named]
    if "mask" in spec.named:
        return spec.named["mask"]
    return 1 + max(_ids(json.loads(spec.json)), default=-1)


def with_mask(checkpoint: Checkpoint, mask_id: int) -> Decoder:
    """The network of a causal checkpoint, every parameter to be trained, with a row for the mask.

    A new row is the mean of the others, so that a mask says nothing in particular.

    Raises:
        CheckpointError: another kind of network, or one that does not fit its tokenizer.
    """
    decoder = load_decoder(checkpoint)
    if mask_id > decoder.config.vocab:
        raise CheckpointError(
            f"{checkpoint.name} has {mask_id} tokens and {decoder.config.vocab} rows to embed them: its tokenizer is "
            "of another model"
        )
    if mask_id == decoder.config.vocab:
        decoder.config = replace(decoder.config, vocab=mask_id + 1)
        decoder.embed = _longer(nn.Embedding(mask_id + 1, decoder.config.width), decoder.embed.weight)
        head = nn.Linear(decoder.config.width, mask_id + 1, bias=False)
        decoder.head = head if decoder.config.tied else _longer(head, decoder.head.weight)
        if decoder.config.tied:
            decoder.head.weight = decoder.embed.weight
    return decoder.requires_grad_(True)


def tokenizer_with_mask(spec: TokenizerSpec, mask_id: int) -> str:
    """The tokenizer's JSON, with a control token for the mask where it had none."""
    document = json.loads(spec.json)
    if mask_id in _ids(document):
        return spec.json
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    document.setdefault("added_tokens", []).append({"id": mask_id, "content": MASK, **flags})
    return json.dumps(document, ensure_ascii=False)


def _longer(module: M, rows: Tensor) -> M:
    with torch.no_grad():
        module.weight.copy_(torch.cat([rows, rows.mean(0, keepdim=True)]))
    return module


def _ids(document: dict[str, Any]) -> set[int]:
    vocab = document.get("model", {}).get("vocab") or {}
    ids = set(range(len(vocab))) if isinstance(vocab, list) else set(vocab.values())
    return ids | {row["id"] for row in document.get("added_tokens", [])}
