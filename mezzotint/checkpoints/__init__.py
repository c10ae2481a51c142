"""Model files on disk and the cache they live in: tensors, configuration and tokenizer, whatever the container.

Names are imported when first used: the cache and the catalogue need nothing but the standard library, so that a model
can be fetched while the packages are still being installed.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mezzotint.checkpoints.base import Checkpoint, QuantisedBlocks, Tensor, TokenizerSpec
    from mezzotint.checkpoints.catalogue import DEFAULT_MODEL, CatalogueEntry, catalogued, list_models, pull, where
    from mezzotint.checkpoints.open import is_hub_id, open_checkpoint

_HOMES = {
    "base": ("Checkpoint", "QuantisedBlocks", "Tensor", "TokenizerSpec"),
    "catalogue": ("DEFAULT_MODEL", "CatalogueEntry", "catalogued", "list_models", "pull", "where"),
    "open": ("is_hub_id", "open_checkpoint"),
}

__all__ = [
    "DEFAULT_MODEL",
    "CatalogueEntry",
    "Checkpoint",
    "QuantisedBlocks",
    "Tensor",
    "TokenizerSpec",
    "catalogued",
    "is_hub_id",
    "list_models",
    "open_checkpoint",
    "pull",
    "where",
]


def __getattr__(name: str) -> Any:
    home = next((home for home, names in _HOMES.items() if name in names), None)
    if home is None:
        raise AttributeError(f"module 'mezzotint.checkpoints' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"mezzotint.checkpoints.{home}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
