"""Everything a user can do wrong, as one drawn tree.

    MezzotintError          a sentence for the user; never a bug of ours
    ├── ConfigError         a setting, recipe or option that does not fit
    │   └── PluginError     a family, schedule, method or recipe of another package that cannot be had
    ├── RequestError        a prompt or generation request that cannot be served
    │   └── CanvasError     a canvas that cannot be laid out: lengths, blocks, spans
    ├── VocabularyError     text, ids or special tokens that the vocabulary does not have
    ├── CheckpointError     weights or runs on disk that are missing, damaged or of another kind
    ├── CapacityError       not enough disk, memory or context for what was asked
    ├── DependencyError     a package that an extra brings is not installed; an ImportError too
    └── TrainingError       a training run that had to stop: losses are no longer numbers

A message is one sentence: lower case, no full stop, what was asked, what is wrong, what to do, values filled in.
The command line prints it in red and exits with `exit_code`; nothing else in the package looks at that number.
"""

from typing import ClassVar


class MezzotintError(Exception):
    """Root of the tree; raise a leaf."""

    exit_code: ClassVar[int] = 2


class ConfigError(MezzotintError):
    """A setting, recipe or command-line option that does not fit."""


class PluginError(ConfigError):
    """Something of another package that is not installed, not imported, or not what it should be."""


class RequestError(MezzotintError):
    """A generation request that cannot be served as asked."""


class CanvasError(RequestError):
    """A canvas that cannot be laid out: its length, blocks or spans contradict each other."""


class VocabularyError(MezzotintError):
    """Text, token ids or special tokens that the vocabulary does not have."""


class CheckpointError(MezzotintError):
    """Weights or a run on disk that are missing, damaged or of another kind."""


class CapacityError(MezzotintError):
    """Not enough disk, memory or context for what was asked."""


class DependencyError(MezzotintError, ImportError):
    """A package that is needed and not installed."""


class TrainingError(MezzotintError):
    """A training run that had to stop although its input was accepted."""

    exit_code: ClassVar[int] = 1
