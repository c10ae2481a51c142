"""What `mezzotint models presets` says of the named ways of decoding."""

from typing import Any


def records() -> dict[str, dict[str, Any]]:
    """Every field of every preset."""
    from mezzotint.config import to_dict
    from mezzotint.decode.methods.registry import METHODS

    return {name: to_dict(how) for name, how in METHODS.items()}


def rows() -> list[list[str]]:
    """Name, families that are usually decoded so, and what it is: its loop, and values that are not default."""
    from mezzotint.config import to_dict
    from mezzotint.decode.methods.presets import Preset
    from mezzotint.decode.methods.registry import METHODS
    from mezzotint.denoisers.published.families import FAMILIES

    made: list[list[str]] = []
    for name, how in METHODS.items():
        plain = to_dict(type(how)())
        changed = (f"{key} {_short(value)}" for key, value in to_dict(how).items() if value != plain[key])
        about = "" if isinstance(how, Preset) else (type(how).__doc__ or "").partition("\n")[0]
        usual = ", ".join(family for family, row in FAMILIES.items() if row.method == name)
        made.append([name, usual or "-", f"{about} {', '.join(changed)}".strip()])
    return made


def _short(value: Any) -> str:
    """A value, or the kind and the numbers of a choice."""
    if not isinstance(value, dict):
        return str(value)
    return " ".join([value["kind"], *(f"{key} {number}" for key, number in value.items() if key != "kind" and number)])
