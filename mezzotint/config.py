"""Configuration: frozen records, checked at the edge, complete in run.json.

A record is a class under `@config`.  Where a field may be one of several records, it is a `Named` union told apart by
`kind`, and its bare name is enough: `"cosine"` is `{"kind": "cosine"}`.  Docstrings under fields become schema text.
"""

import json
import os
import tempfile
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, TypeVar, dataclass_transform

from pydantic import BeforeValidator, ConfigDict, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from mezzotint.errors import ConfigError

C = TypeVar("C")


@dataclass_transform(kw_only_default=True, frozen_default=True)
def config(cls: type[C]) -> type[C]:
    """A frozen, keyword-only pydantic dataclass that refuses unknown fields."""
    settings = ConfigDict(extra="forbid", use_attribute_docstrings=True)
    return dataclass(cls, frozen=True, kw_only=True, config=settings)  # pyright: ignore[reportReturnType]


def _name_to_record(value: Any) -> Any:
    return {"kind": value} if isinstance(value, str) else value


Named = BeforeValidator(_name_to_record)
"""Annotation for unions of records: `Annotated[Linear | Cosine, Field(discriminator="kind"), Named]`."""


def to_dict(cfg: Any) -> dict[str, Any]:
    """The record as plain JSON values, every default written out."""
    return TypeAdapter(type(cfg)).dump_python(cfg, mode="json")


def to_json(cfg: Any) -> str:
    """The record as indented JSON text, every default written out."""
    return json.dumps(to_dict(cfg), indent=2, ensure_ascii=False)


def from_dict(cls: type[C], values: dict[str, Any], typed: Collection[str] = ()) -> C:
    """The record of type `cls` with these values.

    `typed` are names that the user gave by hand, whose modules may be imported (plugins.py).

    Raises:
        ConfigError: naming every value that does not fit, by its path.
    """
    try:
        return TypeAdapter(cls).validate_python(values, context={"typed": typed})
    except ValidationError as error:
        raise ConfigError(f"the configuration does not fit:\n{_problems(error)}") from None


def from_json(cls: type[C], text: str) -> C:
    """The record of type `cls` written by `to_json`.

    Raises:
        ConfigError: not JSON, or values that do not fit, as for `from_dict`.
    """
    try:
        values = json.loads(text)
    except json.JSONDecodeError as error:
        raise ConfigError(f"the configuration is not JSON: {error}") from None
    return from_dict(cls, values)


def override(cfg: C, edits: list[str] | tuple[str, ...]) -> C:
    """A copy of `cfg` with edits such as `["optim.lr=1e-3", "schedule=cosine"]`.

    Naming another `kind` of a union drops the fields of the former one; what another package defines is imported.
    Values are read by the type of the field; lists and records are written as JSON, and `null` is None.

    Raises:
        ConfigError: an edit without "=", a path through a plain value, or any value that does not fit, by its path.
    """
    values = to_dict(cfg)
    typed: set[str] = set()
    for edit in edits:
        path, equals, text = edit.partition("=")
        if not equals or not path.strip():
            raise ConfigError(f"cannot read the edit {edit!r}: write it as path=value, for example optim.lr=1e-3")
        value = _read(text)
        typed.update(_words(value))
        _assign(values, path.strip().split("."), value, edit)
    return from_dict(type(cfg), values, typed)


def save_run(path: Path, cfg: Any, **facts: Any) -> None:
    """Write run.json: the whole configuration and `facts` about how it ran; replaces an older file in one move."""
    write_json(path, {**facts, "config": to_dict(cfg)})


def load_run(path: Path) -> dict[str, Any]:
    """What `save_run` wrote: its facts, and the plain values under "config".

    Raises:
        ConfigError: the file is missing, unreadable or not a run record.
    """
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot read the run record {path}: {error}") from None
    if not isinstance(record, dict) or not isinstance(record.get("config"), dict):
        raise ConfigError(f"{path} is not a run record: it has no configuration in it")
    return record


def write_json(path: Path, value: Any) -> None:
    """Write JSON beside `path`, then move it into place, so a reader or a full disk never meets half a file."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(value, file, indent=2, ensure_ascii=False)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _read(text: str) -> Any:
    if text == "null":
        return None
    if text[:1] in ("[", "{", '"'):
        try:
            return json.loads(text)
        except json.JSONDecodeError:
            return text
    return text


def _words(value: Any) -> Iterator[str]:
    """All texts in plain JSON values."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _words(inner)


def _assign(values: dict[str, Any], path: list[str], value: Any, edit: str) -> None:
    *parents, last = path
    for key in parents:
        inner = values.get(key)
        if inner is None:
            inner = values[key] = {}
        elif isinstance(inner, str):
            inner = values[key] = {"kind": inner}
        if not isinstance(inner, dict):
            raise ConfigError(f"cannot apply {edit!r}: {key!r} holds {inner!r}, which has no fields")
        values = inner
    if last == "kind" and values.get("kind") != value:
        values.clear()
    values[last] = value


def _problems(error: ValidationError) -> str:
    lines = []
    for item in error.errors():
        path = ".".join(str(part) for part in item["loc"]) or "(whole)"
        lines.append(f"  {path}: {item['msg']}")
    return "\n".join(lines)
