"""All named ways of decoding a published model, whatever their loop looks like.

A way is a record that begins a generation: iterating what it begins gives the canvas after every pass of the network,
and its result is what was written.
"""

from collections.abc import Iterable, Sequence
from dataclasses import fields, replace
from difflib import get_close_matches
from typing import Any, Protocol

from mezzotint.decode.generation import Generation
from mezzotint.decode.methods.d2f import D2F
from mezzotint.decode.methods.daedal import Daedal
from mezzotint.decode.methods.diffusion_gemma import UniformCanvases
from mezzotint.decode.methods.dreamon import DreamOn
from mezzotint.decode.methods.freedave import FreeDave
from mezzotint.decode.methods.llada22_levenshtein import LevenshteinEditing
from mezzotint.decode.methods.presets import PRESETS
from mezzotint.decode.methods.speculative import SelfVerified, Speculative
from mezzotint.decode.run import MaskedModel
from mezzotint.errors import ConfigError


class Method(Protocol):
    """How to decode: a record."""

    def begin(
        self, model: MaskedModel, prompts: Sequence[Sequence[int]], length: int, seeds: Sequence[int] | None = None
    ) -> Generation:
        """Continue every prompt by at most `length` tokens.

        Raises:
            ConfigError: a way that does not fit the model.
            CanvasError: no prompt, or a length that is not positive.
        """
        ...


METHODS: dict[str, Method | UniformCanvases] = {
    **PRESETS,
    "daedal": Daedal(),
    "freedave": FreeDave(),
    "judged": Speculative(),
    "idlm": SelfVerified(),
    "llada22": LevenshteinEditing(),
    "dreamon": DreamOn(),
    "d2f": D2F(),
    "d3llm": D2F(confidence="entropy", tau=-0.5, leading=True, causal=False),
    "dgemma": UniformCanvases(),
}
"""By name."""


def method(name: str) -> Method | UniformCanvases:
    """The way of this name.

    Raises:
        ConfigError: there is none.
    """
    if name not in METHODS:
        raise unknown(name, METHODS)
    return METHODS[name]


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
