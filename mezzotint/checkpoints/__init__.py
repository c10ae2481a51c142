"""Model files on disk and the cache they live in: tensors, configuration and tokenizer, whatever the container."""

from mezzotint.checkpoints.base import Checkpoint, QuantisedBlocks, Tensor, TokenizerSpec
from mezzotint.checkpoints.catalogue import DEFAULT_MODEL, CatalogueEntry, list_models, pull, where
from mezzotint.checkpoints.open import is_hub_id, open_checkpoint

__all__ = [
    "DEFAULT_MODEL",
    "CatalogueEntry",
    "Checkpoint",
    "QuantisedBlocks",
    "Tensor",
    "TokenizerSpec",
    "is_hub_id",
    "list_models",
    "open_checkpoint",
    "pull",
    "where",
]
