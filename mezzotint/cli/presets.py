"""What `mezzotint models presets` says of the decoding methods."""

from typing import Any

HEADS = ["preset", "method", "paper", "what it does", "models", "default of", "settings"]


def records() -> dict[str, dict[str, Any]]:
    """What is known of every preset, and every field of its record."""
    from dataclasses import asdict

    from mezzotint.config import to_dict
    from mezzotint.decode.methods.registry import about_method, all_methods

    return {
        name: asdict(about_method(name, how)) | {"default_of": _default_of(name), "settings": to_dict(how)}
        for name, how in all_methods().items()
    }


def rows() -> list[list[str]]:
    """A row of `HEADS` for every preset."""
    from mezzotint.config import to_dict
    from mezzotint.decode.methods.presets import Preset
    from mezzotint.decode.methods.registry import about_method, all_methods

    made: list[list[str]] = []
    for name, how in all_methods().items():
        about, plain = about_method(name, how), to_dict(Preset())
        # `how` is a whole preset inside another method; --json has it
        # a method with a loop of its own shows all its numbers, a preset those that make it what it is
        values = {
            key: value
            for key, value in to_dict(how).items()
            if not isinstance(how, Preset) or value != plain[key] or key in ("block", "temperature")
        }
        settings = ", ".join(_said(key, value) for key, value in values.items() if value is not None and key != "how")
        paper = f"arXiv {about.paper}" if about.paper else "-"
        made.append([name, about.title, paper, about.what, about.needs, ", ".join(_default_of(name)) or "-", settings])
    return made


def _default_of(name: str) -> list[str]:
    """Published families that are decoded so unless asked otherwise."""
    from mezzotint.denoisers.published.families import FAMILIES

    return [family for family, row in FAMILIES.items() if row.method == name and family != "ar"]


def _said(key: str, value: Any) -> str:
    """A field and its value, or the kind and the numbers of a record in it."""
    if not isinstance(value, dict):
        return f"{key} {value}"
    inside = [f"{name} {number}" for name, number in value.items() if name != "kind" and number not in (None, False)]
    return " ".join([key, value["kind"], *inside])
