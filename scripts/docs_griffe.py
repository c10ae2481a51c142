"""How the reference reads what only this package writes: the aligned heads of cards, and records made by `config`."""

import re
from typing import Any

import griffe

ITEM = re.compile(r"([A-Z][\w ]*?) {2,}(\S.*)")


class House(griffe.Extension):
    """Heads of cards become lists, records get the signature that their fields make."""

    def on_module_instance(self, *, mod: griffe.Module, **kwargs: Any) -> None:
        """Lay out the module's docstring."""
        if mod.docstring:
            mod.docstring.value = "\n\n".join(listed(part) for part in mod.docstring.value.split("\n\n"))

    def on_class_members(self, *, cls: griffe.Class, **kwargs: Any) -> None:
        """Give a record its parameters: the fields, by keyword."""
        if not any(str(mark.value).split("(")[0] == "config" for mark in cls.decorators) or "__init__" in cls.members:
            return
        keyword, usual = griffe.ParameterKind.keyword_only, griffe.ParameterKind.positional_or_keyword
        fields = [
            griffe.Parameter(name, annotation=field.annotation, kind=keyword, default=field.value)
            for name, field in cls.members.items()
            if isinstance(field, griffe.Attribute) and field.annotation is not None and name != "kind"
        ]
        parameters = griffe.Parameters(griffe.Parameter("self", kind=usual), *fields)
        cls.set_member("__init__", griffe.Function("__init__", parameters=parameters, returns="None"))


def listed(part: str) -> str:
    """A paragraph of lines `Word   text` as a list; any other one as it is."""
    items: list[str] = []
    for line in part.split("\n"):
        if found := ITEM.fullmatch(line):
            items.append(f"- **{found[1]}**: {found[2]}")
        elif line.startswith("  ") and items:
            items[-1] += " " + line.strip()
        else:
            return part
    return "\n".join(items)
