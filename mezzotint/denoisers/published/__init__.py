"""Reading and writing published checkpoints: identify, check, fill, export.

`open_published` is the door; its name is imported when first used, since modules beside it are asked for alone.
"""

from typing import TYPE_CHECKING, Any

from mezzotint.extras import require

if TYPE_CHECKING:
    from mezzotint.denoisers.published.open import PublishedModel, open_published

require("torch", "a published model")

__all__ = ["PublishedModel", "open_published"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module("mezzotint.denoisers.published.open"), name)
