"""Reading a stored configuration: what is missing or not computed here is an error that names file and key."""

from pathlib import Path
from typing import Any

from mezzotint.checkpoints import Checkpoint
from mezzotint.errors import CheckpointError

OFF: tuple[Any, ...] = (None, False)
"""Values that say a setting is not used."""


class Fields:
    """The fields of config.json, or of an object inside it."""

    def __init__(self, checkpoint: Checkpoint, inside: str = "") -> None:
        self.checkpoint = checkpoint
        self.file: Path = checkpoint.path / "config.json" if checkpoint.path.is_dir() else checkpoint.path
        self.names = set(checkpoint.names())
        values = checkpoint.config.get(inside) if inside else checkpoint.config
        if not isinstance(values, dict):
            raise CheckpointError(f"{self.file} lacks {inside}")
        self.values: dict[str, Any] = values

    def inner(self, key: str) -> "Fields":
        """The fields of an object inside this one.

        Raises:
            CheckpointError: it is not there.
        """
        return Fields(self.checkpoint, key)

    def need(self, key: str) -> Any:
        """The value of a field.

        Raises:
            CheckpointError: it is not there.
        """
        if self.values.get(key) is None:
            raise CheckpointError(f"{self.file} lacks {key}")
        return self.values[key]

    def count(self, key: str) -> int:
        """A positive whole number.

        Raises:
            CheckpointError: it is not there, or something else.
        """
        value = self.need(key)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise CheckpointError(f"{self.file}: {key} is {value!r}, not a positive whole number")
        return value

    def get(self, key: str, default: Any = None) -> Any:
        """The value of a field, `default` where it is absent or null."""
        value = self.values.get(key)
        return default if value is None else value

    def only(self, **allowed: tuple[Any, ...]) -> None:
        """Refuse a field with a value other than those computed here; an absent field is fine.

        Raises:
            CheckpointError: another value.
        """
        for key, values in allowed.items():
            if key in self.values and self.values[key] not in values:
                raise CheckpointError(f"{self.file} sets {key} to {self.values[key]!r}, which is not supported")

    def rope(self) -> float:
        """The base of the rotary angles; newer files keep it in `rope_parameters`.

        Raises:
            CheckpointError: angles scaled for longer texts, which is not computed here.
        """
        for key in ("rope_scaling", "rope_parameters"):
            scaling = self.values.get(key) or {}
            kind = scaling.get("rope_type", scaling.get("type", "default"))
            if kind not in ("default", "none"):
                raise CheckpointError(f"{self.file} sets {key} to {scaling!r}, which is not supported")
        inner = self.values.get("rope_parameters") or {}
        return float(self.get("rope_theta", inner.get("rope_theta", 10000.0)))
