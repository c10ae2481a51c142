"""Reading a stored configuration: what is missing or not computed here is an error that names file and key."""

import math
from copy import copy
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
        self.rows = max((tensor.shape[0] for tensor in checkpoint.tensors.values() if tensor.shape), default=0)
        """Of the longest tensor."""
        values = checkpoint.config.get(inside) if inside else checkpoint.config
        if not isinstance(values, dict):
            raise CheckpointError(f"{self.file} lacks {inside}")
        self.values: dict[str, Any] = values
        self.place = ""
        """Of these fields in the object they were taken from; a beginning of their names in sentences."""

    def inner(self, key: str) -> "Fields":
        """The fields of an object inside this one.

        Raises:
            CheckpointError: it is not there.
        """
        return Fields(self.checkpoint, key)

    def under(self, *keys: str) -> "Fields":
        """The fields of an object inside objects inside this one; none where one of these is absent.

        Raises:
            CheckpointError: something else is there.
        """
        found = copy(self)
        for key in keys:
            found.values = found.part(key)
            found.place += f"{key}."
        return found

    def need(self, key: str) -> Any:
        """The value of a field.

        Raises:
            CheckpointError: it is not there.
        """
        if self.values.get(key) is None:
            raise CheckpointError(f"{self.file} lacks {self.place}{key}")
        return self.values[key]

    def count(self, key: str, default: int | None = None, least: int = 1) -> int:
        """A whole number; `default` where it is absent or null.

        Raises:
            CheckpointError: it is not there and has no default, or is something else or below `least`.
        """
        value = self.need(key) if default is None else self.get(key, default)
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            kind = "a positive whole number" if least else "a whole number"
            raise CheckpointError(f"{self.file}: {self.place}{key} is {value!r}, not {kind}")
        return value

    def layers(self, key: str) -> int:
        """A number of layers, each of which has tensors of its own.

        Raises:
            CheckpointError: not a positive whole number, or more than there are tensors.
        """
        return self.among(key, len(self.names), "stored tensors")

    def experts(self, key: str) -> int:
        """A number of experts, each of which has a row in the router.

        Raises:
            CheckpointError: not a positive whole number, or more than any stored tensor has rows.
        """
        return self.among(key, self.rows, "rows in the longest tensor")

    def among(self, key: str, most: int, what: str, default: int | None = None) -> int:
        """A number of things of which there are `most`.

        Raises:
            CheckpointError: not a positive whole number, or more than there are.
        """
        value = self.count(key, default)
        if value > most:
            raise CheckpointError(f"{self.file}: {self.place}{key} is {value}, but there are only {most} {what}")
        return value

    def number(self, key: str, default: float | None = None) -> float:
        """A positive finite number; `default` where it is absent or null.

        Raises:
            CheckpointError: it is not there and has no default, or is something else.
        """
        return self._positive(key, self.need(key) if default is None else self.get(key, default))

    def share(self, key: str, default: float = 1.0) -> float:
        """A number in (0, 1]; `default` where it is absent or null.

        Raises:
            CheckpointError: something else.
        """
        value = self.number(key, default)
        if value > 1:
            raise CheckpointError(f"{self.file}: {self.place}{key} is {value}, more than the whole")
        return value

    def flag(self, key: str, default: bool) -> bool:
        """True or false; `default` where it is absent or null.

        Raises:
            CheckpointError: something else.
        """
        value = self.get(key, default)
        if not isinstance(value, bool):
            raise CheckpointError(f"{self.file}: {self.place}{key} is {value!r}, neither true nor false")
        return value

    def kinds(self, key: str, default: list[str], known: tuple[str, ...]) -> list[str]:
        """As many names as `default` has, which stands where they are absent or null.

        Raises:
            CheckpointError: another number of names, or something that is not `known`.
        """
        value = self.get(key, default)
        if not isinstance(value, list) or len(value) != len(default) or any(one not in known for one in value):
            raise CheckpointError(
                f"{self.file}: {self.place}{key} is {value!r}, not {len(default)} of {', '.join(known)}"
            )
        return value

    def counts(self, key: str, default: list[int]) -> list[int]:
        """Whole numbers; `default` where they are absent or null.

        Raises:
            CheckpointError: something else.
        """
        value = self.get(key, default)
        if not isinstance(value, list) or not all(isinstance(one, int) for one in value):
            raise CheckpointError(f"{self.file}: {self.place}{key} is {value!r}, not a list of whole numbers")
        return value

    def part(self, key: str) -> dict[str, Any]:
        """An object, empty where it is absent, null or, as RND1 has it, false.

        Raises:
            CheckpointError: something else.
        """
        value = self.values.get(key)
        if value in OFF:
            return {}
        if not isinstance(value, dict):
            raise CheckpointError(f"{self.file}: {self.place}{key} is {value!r}, not an object")
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
                raise CheckpointError(
                    f"{self.file} sets {self.place}{key} to {self.values[key]!r}, which is not supported"
                )

    def rope(self) -> float:
        """The base of the rotary angles; newer files keep it in `rope_parameters`.

        Raises:
            CheckpointError: angles scaled for longer texts, which is not computed here.
        """
        for key in ("rope_scaling", "rope_parameters"):
            scaling = self.part(key)
            kind = scaling.get("rope_type", scaling.get("type", "default"))
            if kind not in ("default", "none"):
                raise CheckpointError(f"{self.file} sets {self.place}{key} to {scaling!r}, which is not supported")
        inner = self.part("rope_parameters")
        return self._positive("rope_theta", self.get("rope_theta", inner.get("rope_theta", 10000.0)))

    def _positive(self, key: str, value: Any) -> float:
        usual = isinstance(value, int | float) and not isinstance(value, bool)
        if not usual or not math.isfinite(value) or value <= 0:
            raise CheckpointError(f"{self.file}: {self.place}{key} is {value!r}, not a positive number")
        return float(value)
