"""Packages that come with extras of this one, and the sentence for where one is missing.

The base package runs the default model.  `pip install 'mezzotint[torch]'` and the like bring the rest.
"""

from importlib import import_module

from mezzotint.errors import DependencyError

EXTRAS = {
    "torch": "torch",
    "matplotlib": "plot",
    "transformers": "bench",
    "accelerate": "bench",
    "llama_cpp": "bench",
}
"""The extra that brings a package, by the name it is imported by."""


def require(package: str, what: str) -> None:
    """Import a package of an extra before it is needed.

    Args:
        package: one of `EXTRAS`.
        what: what needs it, in the user's words: the sentence begins with it.

    Raises:
        DependencyError: it is not installed; the message has the command that installs it.
    """
    try:
        import_module(package)
    except ModuleNotFoundError as error:
        if error.name != package:
            raise
        raise missing(package, what) from None


def missing(package: str, what: str) -> DependencyError:
    """The error for a package of `EXTRAS` that is not installed."""
    return DependencyError(f"{what} needs {package}: pip install 'mezzotint[{EXTRAS[package]}]'", name=package)
