"""Others' work by name: records, decoding methods and recipes of packages outside this one.

A name is one that an installed package registers as an entry point of a group below, or `module:attribute`.  Opening a
folder never imports a module that no installed package registers: `module:attribute` in a file only finds what this
process has imported already (docs/decisions/0003-plugins.md says why).
"""

import sys
from collections.abc import Callable, Collection
from dataclasses import dataclass, fields
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Annotated, Any, Union

from pydantic import Field, GetCoreSchemaHandler, TypeAdapter, ValidationInfo
from pydantic.dataclasses import is_pydantic_dataclass
from pydantic_core import CoreSchema, core_schema

from mezzotint.config import to_dict
from mezzotint.errors import PluginError

GROUPS = {"families": "family", "methods": "decoding method", "recipes": "recipe", "schedules": "schedule"}
"""What a package may register, as entry points of "mezzotint.families" and so on; and what one of each is called."""


@dataclass(frozen=True)
class OneOf:
    """Annotation of a field that takes a record of this package by its kind, or one of any other that fits.

    `Annotated[Survival, OneOf("schedules", Survival, (Linear, Cosine))]` takes "cosine", {"kind": "cosine", "eps": 0},
    any object with the methods of Survival whose class is under `config`, and the name of such a class.
    """

    group: str
    protocol: type
    own: tuple[type, ...]

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        own = handler.generate_schema(Annotated[Union[self.own], Field(discriminator="kind")])  # noqa: UP007
        written = core_schema.plain_serializer_function_ser_schema(self.plain)
        return core_schema.with_info_wrap_validator_function(self._read, own, serialization=written)

    def plain(self, record: Any) -> dict[str, Any]:
        """A record as plain JSON values from which the same annotation reads it again."""
        values = to_dict(record)
        if type(record) in self.own:
            return values
        point = _registered(type(record), self.group)
        package = {"package": point.dist.name} if point is not None and point.dist is not None else {}
        return {"kind": kind_of(record), **package, **{name: values[name] for name in values if name != "kind"}}

    def names(self) -> list[str]:
        """The kinds of this package, then those that others register."""
        return self._own_names() + sorted(registered(self.group))

    def _own_names(self) -> list[str]:
        return [str(field.default) for cls in self.own for field in fields(cls) if field.name == "kind"]

    def _read(self, value: Any, own: Callable[[Any], Any], info: ValidationInfo) -> Any:
        if isinstance(value, str):
            value = {"kind": value}
        if isinstance(value, dict):
            value = self._named(value, info)
        if type(value) in (*self.own, dict) or _is_ours(type(value)) or type(value).__module__ == "builtins":
            return own(value)
        self._check(value)
        return value

    def _named(self, values: dict[str, Any], info: ValidationInfo) -> Any:
        """The record of another package that `values` are of; `values` where they are of this one, or of none."""
        kind = values.get("kind")
        if not isinstance(kind, str) or kind in self._own_names():
            return values
        found = find(self.group, kind, typed=(info.context or {}).get("typed", ()), package=values.get("package"))
        if found is None:
            return values
        if not (isinstance(found, type) and is_pydantic_dataclass(found)):
            raise PluginError(
                f"{kind} is no {GROUPS[self.group]}: it has to be a class under mezzotint.extending.config"
            )
        given = {key: value for key, value in values.items() if key not in ("kind", "package")}
        return TypeAdapter(found).validate_python(given, context=info.context)

    def _check(self, record: Any) -> None:
        name, called = type(record).__name__, GROUPS[self.group]
        if not is_pydantic_dataclass(type(record)):
            raise PluginError(f"{name} cannot be written into run.json: put mezzotint.extending.config over its class")
        kind_of(record)
        if not isinstance(record, self.protocol):
            members = [member for member in vars(self.protocol) if not member.startswith("_")]
            lacks = ", ".join(member for member in members if not hasattr(record, member))
            raise PluginError(f"{name} is no {called}: it has no {lacks}")


def kind_of(record: Any) -> str:
    """The name that a record goes by in files and tables: its kind, its entry point, or module:class.

    Raises:
        PluginError: its class is inside a function, where no name reaches it.
    """
    cls = type(record)
    if _is_ours(cls):
        return record.kind
    for group in GROUPS:
        point = _registered(cls, group)
        if point is not None:
            return point.name
    if "<locals>" in cls.__qualname__:
        raise PluginError(
            f"{cls.__name__} is inside a function, where no run finds it again: move it out into a module"
        )
    return _value(cls)


def registered(group: str) -> dict[str, EntryPoint]:
    """What installed packages register in a group, by name; nothing is imported.

    Raises:
        PluginError: two packages register different things under one name.
    """
    found: dict[str, EntryPoint] = {}
    for point in entry_points(group=f"mezzotint.{group}"):
        other = found.setdefault(point.name, point)
        if other.value != point.value:
            raise PluginError(
                f"{_package(other)} and {_package(point)} both register a {GROUPS[group]} called {point.name!r}: "
                "uninstall one of them"
            )
    return found


def find(group: str, name: str, typed: Collection[str] = (), package: str | None = None) -> Any | None:
    """What a name of another package stands for; None for a plain word that no installed package registers.

    Args:
        group: of `GROUPS`.
        name: of an entry point, or module:attribute.
        typed: names that the user gave by hand in this process; their modules are imported.
        package: that which registered the name when it was written down.

    Raises:
        PluginError: a module that is missing, that nobody asked to import, or has no such attribute.
    """
    points = registered(group)
    point = points.get(name) or next((point for point in points.values() if _written(point) == name), None)
    called = GROUPS[group]
    if point is not None:
        return _loaded(point, called)
    module, colon, attribute = name.partition(":")
    if not colon:
        if package:
            raise PluginError(
                f"the {called} {name!r} belongs to the package {package!r}, which is not installed here: "
                "install it, if you trust it"
            )
        return None
    if name in typed or module.partition(".")[0] == __name__.partition(".")[0]:
        import_plugin(module)
    if module not in sys.modules:
        raise PluginError(
            f"the {called} {name} is code of another package, and opening files imports none: "
            f"import {module} first, on the command line by mezzotint --import {module}"
        )
    found: Any = sys.modules[module]
    for part in attribute.split("."):
        # not getattr: a module may answer that by importing
        inside = getattr(found, "__dict__", {})
        if part not in inside:
            raise PluginError(f"the module {module} has no {called} {attribute}: check the name, or update the package")
        found = inside[part]
    return found


def import_plugin(module: str) -> None:
    """Import a module that the user has named; what goes wrong inside of it is raised as it is.

    Raises:
        PluginError: there is no such module.
    """
    if not all(part.isidentifier() for part in module.split(".")):
        raise PluginError(f"cannot import {module!r}: write module:attribute, such as my_package.families:Focal")
    try:
        import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise
        raise PluginError(
            f"there is no module {module} to import: install its package, or, where it is a file in this folder, "
            "run python -m mezzotint instead of mezzotint"
        ) from None


def _loaded(point: EntryPoint, called: str) -> Any:
    try:
        return point.load()
    except (ImportError, AttributeError) as error:
        raise PluginError(
            f"cannot load the {called} {point.name!r} of {_package(point)}: {error}; update or uninstall that package"
        ) from error


def _registered(cls: type, group: str) -> EntryPoint | None:
    return next((point for point in registered(group).values() if _written(point) == _value(cls)), None)


def _value(cls: type) -> str:
    return f"{cls.__module__}:{cls.__qualname__}"


def _written(point: EntryPoint) -> str:
    """module:attribute, without the extras that an entry point may name."""
    return f"{point.module}:{point.attr}"


def _package(point: EntryPoint) -> str:
    return point.dist.name if point.dist is not None else point.module


def _is_ours(cls: type) -> bool:
    return cls.__module__.partition(".")[0] == __name__.partition(".")[0]
