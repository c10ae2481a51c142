"""The registry of decoding methods: presets of masked models, and published methods that have a loop of their own.

A method is a record that begins a generation: iterating what it begins gives the canvas after every pass of the
network, and its result is what was written.  To add one: its record, in a module of this folder under its published
name, a row of `METHODS` and one of `ABOUT`; a family whose authors decode so names it in
denoisers/published/families.py.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from difflib import get_close_matches
from typing import Any, Protocol, runtime_checkable

from mezzotint.decode.generation import Generation
from mezzotint.decode.methods.d2f import D2F
from mezzotint.decode.methods.daedal import Daedal
from mezzotint.decode.methods.diffusion_gemma import UniformCanvases
from mezzotint.decode.methods.dreamon import DreamOn
from mezzotint.decode.methods.freedave import FreeDave
from mezzotint.decode.methods.llada22_levenshtein import LevenshteinEditing
from mezzotint.decode.methods.presets import PRESETS
from mezzotint.decode.methods.speculative import SelfVerified, Speculative
from mezzotint.decode.methods.wino import Wino
from mezzotint.decode.run import MaskedModel
from mezzotint.errors import ConfigError, PluginError
from mezzotint.plugins import find, registered


@runtime_checkable
class Method(Protocol):
    """How to decode: a record."""

    def begin(
        self, model: MaskedModel, prompts: Sequence[Sequence[int]], length: int, seeds: Sequence[int] | None = None
    ) -> Generation:
        """Continue every prompt by at most `length` tokens.

        Raises:
            ConfigError: a method that does not fit the model.
            CanvasError: no prompt, or a length that is not positive.
        """
        ...


METHODS: dict[str, Method | UniformCanvases] = {
    **PRESETS,
    "daedal": Daedal(),
    "freedave": FreeDave(),
    "speculative": Speculative(),
    "idlm": SelfVerified(),
    "llada22": LevenshteinEditing(),
    "dreamon": DreamOn(),
    "d2f": D2F(),
    "d3llm": D2F(confidence="entropy", tau=-0.5, leading=True, causal=False),
    "dgemma": UniformCanvases(),
    "wino": Wino(),
}
"""By name."""


@dataclass(frozen=True)
class MethodInfo:
    """What a user wants to know of a preset."""

    title: str
    """Its published name."""
    paper: str
    """arXiv id; empty where there is none."""
    what: str
    needs: str = "masked"
    """Models it is for."""


_BLOCKS = "block-causal"
_CAUSAL = "causal with a mask"
_FULL = "masked, full attention"
_LOW = "low-confidence remasking"
ABOUT: dict[str, MethodInfo] = {
    "llada-ref": MethodInfo("LLaDA", "2502.09992", f"{_LOW}: the schedule's share of columns, most confident first"),
    "llada-random": MethodInfo("LLaDA, random remasking", "2502.09992", "the schedule's share, in random order"),
    "llada-fast": MethodInfo("Fast-dLLM", "2505.22618", "confidence above a threshold, dual cache"),
    "llada-factor": MethodInfo("Fast-dLLM, factor", "2505.22618", "most columns n with (n + 1)(1 - c) < f, dual cache"),
    "llada-leap": MethodInfo(
        "LocalLeap", "2510.07081", "the schedule's share, and confident neighbours of very confident columns"
    ),
    "llada-klass": MethodInfo("KLASS", "2511.05664", "confident predictions whose KL between steps has become small"),
    "wino": MethodInfo("WINO", "2507.18578", "drafts many tokens, masks those again that the others contradict", _FULL),
    "dpad": MethodInfo("DPad", "", "threshold, most masks of the suffix dropped out", _FULL),
    "dparallel": MethodInfo("dParallel", "2509.26488", "confidence above a low threshold, for models distilled to it"),
    "dream-ref": MethodInfo("Dream, entropy", "2508.15487", "lowest entropy first, on a schedule of shrinking times"),
    "dream-origin": MethodInfo("Dream, origin", "2508.15487", "ancestral: each column revealed by chance"),
    "dream-fast": MethodInfo("Fast-dLLM for Dream", "2505.22618", "threshold, dual cache, first column first"),
    "eb": MethodInfo("EB-sampler", "2505.24857", "columns whose entropies sum to at most gamma nats"),
    "diffullama": MethodInfo("DiffuLLaMA", "2410.17891", "ancestral: each column revealed by chance"),
    "sdar": MethodInfo("SDAR", "2510.06303", "threshold, the schedule's share at least", _BLOCKS),
    "fdllm2": MethodInfo("Fast-dLLM v2", "2509.26328", "threshold, a block's first column first", _BLOCKS),
    "llada2": MethodInfo("LLaDA2.0", "2512.15745", "confidence above a threshold", _BLOCKS),
    "llada21-q": MethodInfo("LLaDA2.1, quality", "", "threshold, and written tokens are overwritten", _BLOCKS),
    "llada21-s": MethodInfo("LLaDA2.1, speed", "", "low threshold, and written tokens are overwritten", _BLOCKS),
    "wedlm": MethodInfo("WeDLM", "2512.22737", "sliding window, entropy below a bound, exact cache", _CAUSAL),
    "rnd1": MethodInfo("RND1", "", "lowest entropy first, in a fixed number of steps"),
    "nemotron": MethodInfo("Efficient-DLM", "2512.14067", "confidence above a threshold", _BLOCKS),
    "diffcoder": MethodInfo("Stable-DiffCoder", "2601.15892", "confidence above a threshold", _BLOCKS),
    "daedal": MethodInfo("DAEDAL", "2508.00819", "the answer grows until its end is sure", _FULL),
    "freedave": MethodInfo("FreeDave", "2510.00294", "several steps drafted and verified in one pass; lossless"),
    "speculative": MethodInfo(
        "APD",
        "2506.00413",
        "masks draft, --verifier verifies: its text exactly",
        "masked, and a verifier",
    ),
    "idlm": MethodInfo(
        "I-DLM",
        "2604.11035",
        "verifies its own drafts from masks: its text exactly",
        "causal with a mask",
    ),
    "llada22": MethodInfo("LLaDA2.2", "", "Levenshtein editing: tokens replaced, deleted and inserted", _BLOCKS),
    "dreamon": MethodInfo("DreamOn", "2602.01326", "blanks of unknown length: masks expand or vanish", "DreamOn"),
    "d2f": MethodInfo("D2F", "2508.09192", "a block begins before the last is finished", "trained by D2F"),
    "d3llm": MethodInfo("d3LLM", "2601.07568", "the same by entropy, with full attention and a delayed cache", _FULL),
    "dgemma": MethodInfo("DiffusionGemma", "", "whole canvases from uniform noise, entropy bound", "DiffusionGemma"),
}
"""By name, of every method."""


def method(name: str) -> Method | UniformCanvases:
    """The method of this name: of this package, of an installed one, or module:attribute of an imported module.

    Raises:
        ConfigError: there is none.
        PluginError: it is in a module that was not imported, or it is no decoding method.
    """
    if name in METHODS:
        return METHODS[name]
    found = find("methods", name)
    if found is None:
        raise unknown(name, [*METHODS, *registered("methods")])
    how = found() if isinstance(found, type) else found
    if not (isinstance(how, Method) and is_dataclass(how)):
        raise PluginError(f"{name} is no decoding method: it has to be a record under config, with a begin method")
    return how


def all_methods() -> dict[str, Method | UniformCanvases]:
    """By name, those that installed packages register behind those of this one; raises as `method`."""
    return METHODS | {name: method(name) for name in registered("methods")}


def about_method(name: str, how: Method | UniformCanvases) -> MethodInfo:
    """What `ABOUT` says of a method; of one of another package, the first line of its docstring and its package."""
    if name in ABOUT:
        return ABOUT[name]
    point = registered("methods").get(name)
    package = point.dist.name if point is not None and point.dist is not None else "another package"
    return MethodInfo(type(how).__name__, "", (type(how).__doc__ or "").partition("\n")[0], f"those of {package}")


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
