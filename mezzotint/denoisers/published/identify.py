"""What a checkpoint is, read from its configuration without its weights."""

import json
from dataclasses import dataclass
from typing import Any

from mezzotint.checkpoints import Checkpoint
from mezzotint.checkpoints.folder import SafeTensor
from mezzotint.denoisers.published.config_fields import Fields
from mezzotint.denoisers.published.config_schemas import Architecture
from mezzotint.denoisers.published.families import GROWING, FamilyRow, family_of, known, usual_method
from mezzotint.errors import CheckpointError

ROWS = 1024
"""Of two matrices that are compared at a time."""


@dataclass(frozen=True)
class Identity:
    """What `open_published` and `models inspect` know before weights are read."""

    family: str
    method: str
    """The preset it is decoded with unless asked otherwise."""
    architecture: Architecture
    mask_id: int | None
    stop_ids: tuple[int, ...]
    pad_id: int | None
    block: int | None
    unread: tuple[str, ...]
    """Stored tensors that are not needed."""
    stretch_ids: tuple[int, int] | None = None
    """Ids that stand for two masks and for nothing."""


@dataclass(frozen=True)
class Overrides:
    """What the user knows better than the checkpoint and the table; None leaves a choice to them."""

    family: str | None = None
    """What a model with a generic `model_type` was turned into: "diffullama", "idlm", "open_dcoder"."""
    mask_id: int | None = None
    stop_ids: tuple[int, ...] | None = None
    block: int | None = None
    """SDAR's variants differ in it."""


def read_facts(checkpoint: Checkpoint, given: Overrides = Overrides()) -> Identity:
    """Find the family, the shape and the special ids.

    Raises:
        CheckpointError: not a family known here, a field that is missing or not supported, an id out of place.
        ConfigError: there is no such family.
    """
    fields = Fields(checkpoint)
    family = given.family or _found(checkpoint, str(fields.file))
    row = known(family)
    architecture = row.schema(fields)
    block = given.block or row.block
    if not given.block and row.block_field and fields.get(row.block_field) is not None:
        block = fields.among(row.block_field, architecture.context, "columns in its context")
    stop_ids = _stops(checkpoint, row, architecture.vocab) if given.stop_ids is None else given.stop_ids
    return Identity(
        family=family,
        method=usual_method(checkpoint.config, family),
        architecture=architecture,
        mask_id=_mask(checkpoint, fields, row, architecture.vocab, given.mask_id),
        stop_ids=stop_ids,
        pad_id=_inside(fields.get("pad_token_id", row.pad), architecture.vocab),
        block=block,
        unread=tuple(left_unread(checkpoint, architecture)),
        stretch_ids=_stretch(checkpoint, row, architecture.vocab, stop_ids),
    )


def _found(checkpoint: Checkpoint, file: str) -> str:
    """The family that a checkpoint belongs to."""
    family = family_of(checkpoint.config, file)
    grown = GROWING.get(family)
    return family if grown is None or _expand(checkpoint, known(grown)) is None else grown


def _expand(checkpoint: Checkpoint, row: FamilyRow) -> Any:
    """The id that the checkpoint itself names for a token that stands for two masks."""
    for config in (checkpoint.generation, checkpoint.config):
        if config.get("expand_token_id") is not None:
            return config["expand_token_id"]
    return None if row.expand is None else checkpoint.tokenizer.special.get(row.expand[0])


def _stretch(checkpoint: Checkpoint, row: FamilyRow, vocab: int, stops: tuple[int, ...]) -> tuple[int, int] | None:
    """Ids that stand for two masks and for nothing: the checkpoint's, else the table's, and the first end token's.

    Raises:
        CheckpointError: one of them is no id.
    """
    expand = _expand(checkpoint, row)
    if expand is None:
        if row.expand is None:
            return None
        expand = row.expand[1]
    named = [config.get("delete_token_id") for config in (checkpoint.generation, checkpoint.config)]
    delete = next((one for one in (*named, *stops) if one is not None), None)
    ids = [one for one in (_inside(expand, vocab), _inside(delete, vocab)) if one is not None]
    if len(set(ids)) < 2:
        raise CheckpointError(
            f"{checkpoint.name} expands masks by token {expand} and deletes them by token {delete}: expand_token_id "
            f"and delete_token_id in its config.json must be two ids below {vocab}"
        )
    return ids[0], ids[1]


def _mask(checkpoint: Checkpoint, fields: Fields, row: FamilyRow, vocab: int, given: int | None) -> int | None:
    """The mask's id: the user's, the configuration's, the tokenizer's, or the table's.

    Raises:
        CheckpointError: outside the embedding, or an id of ordinary text.
    """
    stored = fields.get("mask_token_id")
    if stored is None:
        stored = checkpoint.tokenizer.named.get("mask")
    chosen = given if given is not None else stored if stored is not None else row.mask
    if chosen is None:
        return None
    if _inside(chosen, vocab) is None:
        raise CheckpointError(
            f"{fields.file}: the mask id {chosen} lies outside the {vocab} rows of the embedding: pass mask_id"
        )
    if given is None and not row.plain_mask and chosen in _text_ids(checkpoint):
        raise CheckpointError(f"{fields.file}: the mask id {chosen} is a token of ordinary text: pass mask_id")
    return chosen


def _text_ids(checkpoint: Checkpoint) -> set[int]:
    """Ids of tokens that are not special; empty without a tokenizer."""
    if not checkpoint.tokenizer.json:
        return set()
    document = json.loads(checkpoint.tokenizer.json)
    vocab = document.get("model", {}).get("vocab")
    ids = set(vocab.values()) if isinstance(vocab, dict) else set()
    return ids - {row["id"] for row in document.get("added_tokens", [])}


def _stops(checkpoint: Checkpoint, row: FamilyRow, vocab: int) -> tuple[int, ...]:
    """Ids that end an answer: generation_config.json's, the configuration's, the tokenizer's, the table's."""
    found: list[int] = []
    for config in (checkpoint.generation, checkpoint.config, checkpoint.config.get("text_config") or {}):
        stored = config.get("eos_token_id")
        found += stored if isinstance(stored, list) else [] if stored is None else [stored]
    found += [*checkpoint.tokenizer.eos_ids, *row.stops]
    return tuple(dict.fromkeys(one for one in found if _inside(one, vocab) is not None))


def _inside(one: Any, vocab: int) -> int | None:
    return one if isinstance(one, int) and not isinstance(one, bool) and 0 <= one < vocab else None


def left_unread(checkpoint: Checkpoint, architecture: Architecture) -> list[str]:
    """Tensors to leave: computed ones, and a tied head stored a second time.

    Raises:
        CheckpointError: the second copy differs from the first.
    """
    unread = [name for name in checkpoint.names() if architecture.unread(name)]
    if architecture.tied and architecture.head and architecture.head in checkpoint.tensors:
        (embed,) = architecture.keys("embed.weight", ())
        if embed.key in checkpoint.tensors and not _equal(checkpoint, architecture.head, embed.key):
            raise CheckpointError(
                f"{checkpoint.tensors[architecture.head].file} stores {architecture.head} although the configuration "
                f"ties it to {embed.key}, and the two differ"
            )
        unread.append(architecture.head)
    return unread


def _equal(checkpoint: Checkpoint, one: str, other: str) -> bool:
    """Whether two matrices hold the same numbers; read a few rows at a time, they are the largest there are."""
    left, right = checkpoint.tensors[one], checkpoint.tensors[other]
    if left.shape != right.shape:
        return False
    if not isinstance(left, SafeTensor) or not isinstance(right, SafeTensor):
        return bool((left.read() == right.read()).all())
    starts = range(0, left.shape[0], ROWS)
    spans = [(start, min(start + ROWS, left.shape[0])) for start in starts]
    return all(bool((left.rows(*span) == right.rows(*span)).all()) for span in spans)
