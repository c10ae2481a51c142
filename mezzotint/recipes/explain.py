"""A configuration for people: every setting with its value, what it may be, and what it means."""

import inspect
import json
import textwrap
import types
from collections.abc import Iterator
from dataclasses import is_dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from mezzotint.config import to_dict
from mezzotint.plugins import OneOf, kind_of

WIDTH = 100
_PLAIN = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}
_LIMITS = {"gt": "above", "ge": "from", "lt": "below", "le": "up to"}


def explained(cfg: Any) -> str:
    """YAML with comments; a setting is changed by the names on the way to it, such as `--set train.optim.lr=1e-3`."""
    return "\n".join(_settings(cfg, 0))


def _settings(cfg: Any, depth: int) -> Iterator[str]:
    values = to_dict(cfg)
    for name, field in type(cfg).__pydantic_fields__.items():
        value, choice = getattr(cfg, name), _choices(field.annotation, field.metadata)
        said = " ".join((field.description or "").split())
        if is_dataclass(value):
            said = said or _summary(type(value))
        if name == "kind":
            # the record's own setting says already which there are, and what this one is
            said, choice = "", ""
        yield from _comment(f"{said}  [{choice}]" if choice else said, depth)
        indent = "  " * depth
        if is_dataclass(value):
            yield f"{indent}{name}:"
            if (
                any(isinstance(item, OneOf) for item in field.metadata)
                and "kind" not in type(value).__dataclass_fields__
            ):
                yield f"{indent}  kind: {_shown(kind_of(value))}"
            yield from _settings(value, depth + 1)
        else:
            yield f"{indent}{name}: {_shown(values[name])}"


def _comment(text: str, depth: int) -> Iterator[str]:
    mark = "  " * depth + "# "
    yield from textwrap.wrap(text.strip(), WIDTH, initial_indent=mark, subsequent_indent=mark)


def _summary(kind: type) -> str:
    """The first paragraph of a record's docstring."""
    return " ".join((inspect.getdoc(kind) or "").partition("\n\n")[0].split())


def _shown(value: Any) -> str:
    """JSON, which is YAML too; a list of more than a line shows only its beginning."""
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= WIDTH else f"{text[:WIDTH]} ..."


def _choices(annotation: Any, metadata: list[Any] | tuple[Any, ...] = ()) -> str:
    """What a setting may be, in words; nothing for a record that has no alternative."""
    for item in metadata:
        if isinstance(item, OneOf):
            return f"one of {', '.join(item.names())}, or one of another package, as module:Class"
    origin, inside = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _choices(inside[0], inside[1:])
    if origin in (Union, types.UnionType):
        parts = [_bare(part) for part in inside if part is not type(None)]
        named = [_kind(part) for part in parts if is_dataclass(part) and _kind(part)]
        said = [f"one of {', '.join(named)}" if len(named) > 1 else "".join(named)]
        said += [_choices(part) + _limits(metadata) for part in parts if not is_dataclass(part)]
        return " or ".join(filter(None, [*said, *(["null"] if type(None) in inside else [])]))
    if origin is Literal:
        return f"one of {', '.join(map(str, inside))}" if len(inside) > 1 else ""
    if origin in (tuple, list):
        return "a list"
    return _PLAIN.get(annotation, "") + _limits(metadata)


def _bare(annotation: Any) -> Any:
    return get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation


def _kind(record: Any) -> str:
    """The name that a record goes by where there are others."""
    field = record.__pydantic_fields__.get("kind")
    return str(field.default) if field is not None else ""


def _limits(metadata: list[Any] | tuple[Any, ...]) -> str:
    limits = [(word, getattr(item, key)) for item in metadata for key, word in _LIMITS.items() if hasattr(item, key)]
    found = [f"{word} {limit:g}" for word, limit in limits]
    return f" {' '.join(found)}" if found else ""
