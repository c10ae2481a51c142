"""All named ways of decoding a published model, whatever their loop looks like.

A way is a record that begins a generation: iterating what it begins gives the canvas after every pass of the network,
and its result is what was written.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields, replace
from difflib import get_close_matches
from typing import Any, Protocol

from mezzotint.decode.canvas import Canvas
from mezzotint.decode.methods.d2f import Pipelined
from mezzotint.decode.methods.daedal import Daedal
from mezzotint.decode.methods.diffusion_gemma import Renoising
from mezzotint.decode.methods.dreamon import Stretching
from mezzotint.decode.methods.freedave import Foreseeing
from mezzotint.decode.methods.llada22_levenshtein import InsertDelete
from mezzotint.decode.methods.presets import PRESETS
from mezzotint.decode.methods.speculative import Introspective, Judged
from mezzotint.decode.run import Model, Written
from mezzotint.errors import ConfigError


class Running(Protocol):
    """A generation under way."""

    def __iter__(self) -> Iterator[Canvas]:
        """The canvas after each pass."""
        ...

    def result(self) -> Written:
        """What is written by now."""
        ...


class Way(Protocol):
    """How to decode: a record."""

    def begin(
        self, model: Model, prompts: Sequence[Sequence[int]], length: int, seeds: Sequence[int] | None = None
    ) -> Running:
        """Continue every prompt by at most `length` tokens.

        Raises:
            ConfigError: a way that does not fit the model.
            CanvasError: no prompt, or a length that is not positive.
        """
        ...


WAYS: dict[str, Way | Renoising] = {
    **PRESETS,
    "daedal": Daedal(),
    "freedave": Foreseeing(),
    "judged": Judged(),
    "idlm": Introspective(),
    "llada22": InsertDelete(),
    "dreamon": Stretching(),
    "d2f": Pipelined(),
    "d3llm": Pipelined(confidence="entropy", tau=-0.5, leading=True, causal=False),
    "dgemma": Renoising(),
}
"""By name."""


def way(name: str) -> Way | Renoising:
    """The way of this name.

    Raises:
        ConfigError: there is none.
    """
    if name not in WAYS:
        raise unknown(name, WAYS)
    return WAYS[name]


def unknown(name: str, known: Iterable[str]) -> ConfigError:
    """What to say of a preset that is not among those known."""
    near = get_close_matches(name, list(known), 3, 0.5)
    guess = f"did you mean {' or '.join(near)}? " if near else ""
    return ConfigError(f"there is no decoding preset {name!r}: {guess}`mezzotint models presets` lists all")


def tuned(how: Any, name: str, **given: Any) -> Any:
    """A record of decoding with other values in some of its fields, or in those of the preset that it holds as `how`.

    Raises:
        ConfigError: it has no such field.
    """
    own = {field.name for field in fields(how)}
    here = {key: value for key, value in given.items() if key in own}
    rest = {key: value for key, value in given.items() if key not in own}
    if rest and "how" in own:
        here["how"] = tuned(how.how, name, **rest)
    elif rest:
        raise ConfigError(f"the preset {name} has no {next(iter(rest)).replace('_', '-')}: leave it out")
    return replace(how, **here)
