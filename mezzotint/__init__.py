"""mezzotint: diffusion language models, every family, one way through.

    import mezzotint

    model = mezzotint.load()
    print(model.generate("Why is the sky blue?").text)

Names are imported when first used, so that `import mezzotint` costs nothing.
"""

from typing import TYPE_CHECKING, Any

from mezzotint._version import VERSION as __version__

if TYPE_CHECKING:
    from mezzotint.api import load
    from mezzotint.errors import MezzotintError
    from mezzotint.models.answer import Answer
    from mezzotint.models.base import Bound, Model

_HOMES = {
    "Answer": "models.answer",
    "Bound": "models.base",
    "Model": "models.base",
    "load": "api",
    "MezzotintError": "errors",
}

__all__ = ["Answer", "Bound", "MezzotintError", "Model", "__version__", "load"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'mezzotint' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"mezzotint.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
