"""A published or exported diffusion checkpoint: written by its authors' method, or by any preset that fits it."""

import math
from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any

from mezzotint.checkpoints import Checkpoint
from mezzotint.data.tokenizer import Tokenizer
from mezzotint.decode.methods.choices import Bounded, ByFactor, Choice, Threshold, TopN
from mezzotint.decode.methods.diffusion_gemma import UniformCanvases
from mezzotint.decode.methods.dreamon import DreamOn
from mezzotint.decode.methods.presets import Preset, decoding
from mezzotint.decode.methods.registry import METHODS, Method, tuned
from mezzotint.decode.methods.speculative import Speculative
from mezzotint.decode.run import Run
from mezzotint.denoisers.networks.diffusion_gemma import DiffusionGemma
from mezzotint.denoisers.published.attention_patterns import CausalPattern
from mezzotint.denoisers.published.families import usual_method
from mezzotint.denoisers.published.open import PublishedModel, open_published
from mezzotint.engine.canvas_writer import Begun, CanvasWriter
from mezzotint.engine.request import Request, Sampling
from mezzotint.errors import CheckpointError, ConfigError, MezzotintError, RequestError
from mezzotint.models.answer import Asked, Origin
from mezzotint.models.base import Bound
from mezzotint.models.bounds import published_bound
from mezzotint.models.holes import HOLE, columns_of, continues, ids_of, no_holes, pieces_of
from mezzotint.models.info import ModelInfo
from mezzotint.models.options import Options
from mezzotint.models.published import around, begin, fill, model_of, named
from mezzotint.plugins import registered

NEW_TOKENS = 256
CONTINUED = 32
"""New tokens behind a text that is continued, where nobody says how many."""
CHOICES: dict[str, tuple[type[Any], str]] = {
    "threshold": (Threshold, "tau"),
    "factor": (ByFactor, "f"),
    "entropy_bound": (Bounded, "gamma"),
    "tokens_per_step": (TopN, "n"),
}
"""Option -> the choice of columns that it asks a preset for, and its number there."""
SETTINGS = {"steps": "steps", "block": "block", "temperature": "temperature", "top_p": "top_p", "top_k": "top_k"}
"""Option -> the field of a method that it sets."""
TAKES = frozenset({"preset", "system", "raw", "verifier", "cfg_scale", *CHOICES, *SETTINGS})


class LoadedDiffusion:
    """The model, its vocabulary and its writer."""

    def __init__(self, checkpoint: Checkpoint, published: PublishedModel) -> None:
        """Raises CheckpointError: a checkpoint without a vocabulary cannot read or write text."""
        if published.tokenizer is None:
            raise CheckpointError(
                f"{published.name} has no tokenizer.json, nor a vocab.json and merges.txt of a known class: it cannot "
                "read or write text"
            )
        self.checkpoint, self.published = checkpoint, published
        self.tokenizer = Tokenizer.from_spec(published.tokenizer)
        self.writer = CanvasWriter(self._begun, self._check)
        self.documents = exported_here(checkpoint.config)
        """Whether it was trained here on documents: a prompt is then continued, behind an end token."""
        self.info = self._described()

    def _described(self) -> ModelInfo:
        published, checkpoint = self.published, self.checkpoint
        usual = usual_method(checkpoint.config, published.family)
        weights = list(published.network.parameters())
        others = sorted(name for name in METHODS if name != usual and self._fits(name))
        return ModelInfo(
            name=published.name,
            kind="diffusion",
            family=published.family,
            source=str(checkpoint.path),
            backend="torch",
            context=published.context,
            vocabulary=published.vocab,
            parameters=checkpoint.parameters(),
            memory_bytes=sum(weight.numel() * weight.element_size() for weight in weights),
            mask_id=published.mask_id,
            block=published.block,
            presets=(usual, *others, *registered("methods")),
            chat=self.tokenizer.has_chat,
            fills=fills(published),
        )

    def _fits(self, name: str) -> bool:
        """Whether a preset can write with this model as it is; one that needs a verifier cannot."""
        try:
            begin(self.published, [[0] * (self.published.block or 1)], self.published.block or 8, METHODS[name], [0])
        except MezzotintError:
            return False
        return True

    def answering(self, prompt: str | Sequence[dict[str, Any]], options: Options) -> Asked:
        """See `Loaded`."""
        how, name = self._method(options)
        goes_on = isinstance(prompt, str) and options.system is None and self.documents
        ids = ids_of(self.tokenizer, prompt, replace(options, raw=True) if goes_on else options, self.info.name)
        before = prompt if isinstance(prompt, str) and (goes_on or continues(self.tokenizer, options)) else None
        if goes_on:
            ids = [*self._first(), *ids]
        most = options.max_new_tokens or self._room(CONTINUED if goes_on else NEW_TOKENS, len(ids))
        if options.verifier is not None and not isinstance(how, Speculative):
            raise ConfigError(f"--verifier is for --preset speculative, and this is {name}: leave it out")
        verifier = None if options.verifier is None else open_published(options.verifier)
        method = Planned(how, verifier)
        request = Request(tuple(ids), most, Sampling(seed=options.seed), method, options.stop, before is not None)
        return Asked(request, Origin(name, self.info.name, "torch", causal=False, before=before))

    def has_holes(self, text: str) -> bool:
        """See `Loaded`."""
        return HOLE.search(text) is not None

    def filling(self, text: str, options: Options) -> Asked:
        """See `Loaded`."""
        if not self.info.fills:
            raise ConfigError(f"{self.info.name} writes from left to right and cannot fill holes (___)")
        how, name = self._method(options)
        options.refuse(TAKES - {"system", "verifier", "raw"}, f"filling holes with {self.info.name}")
        if isinstance(how, DreamOn):
            return self._growing(text, options, how, name)
        if not isinstance(how, Preset):
            if name != self.info.presets[0]:
                raise ConfigError(f"the preset {name} writes behind a prompt and cannot fill holes (___)")
            how, name = self._set(METHODS["eb"], "eb", options), "eb"
        assert isinstance(how, Preset)
        columns = [*self._first(needed=text.lstrip(" ").startswith("___")), *columns_of(self.tokenizer, text)]
        if None not in columns:
            raise no_holes(self.info.name)
        holes = replace(how, ends="never", halt=False)
        request = Request(
            tuple(columns), options.max_new_tokens or 0, Sampling(seed=options.seed), Planned(holes), options.stop
        )
        given = len([column for column in columns if column is not None])
        return Asked(
            request, Origin(name, self.info.name, "torch", causal=False, given=given - len(self._lead(columns)))
        )

    def bound(self, text: str, draws: int, seed: int) -> Bound:
        """See `Loaded`."""
        return published_bound(self.published, [*self._first(needed=True), *self.tokenizer.encode(text)], draws, seed)

    def _growing(self, text: str, options: Options, how: DreamOn, name: str) -> Asked:
        """Blanks of any number of tokens."""
        pieces = pieces_of(text)
        if len(pieces) < 2:
            raise no_holes(self.info.name)
        ids = [self.tokenizer.encode(piece) for piece in pieces]
        most = options.max_new_tokens or self._room(NEW_TOKENS, sum(map(len, ids)) + 2)
        row = around(self.published, ids, most, how)
        request = Request(tuple(row), most, Sampling(seed=options.seed), Planned(how), options.stop)
        given = len([token for token in row if token is not None and token not in self.published.stop_ids])
        return Asked(request, Origin(name, self.info.name, "torch", causal=False, given=given))

    def _room(self, wanted: int, given: int) -> int:
        """New tokens where nobody says how many: as many as fit."""
        return max(1, min(wanted, self.published.context - given))

    # requests of the engine ---------------------------------------------------------------------------------------

    def _check(self, request: Request) -> None:
        """Raises RequestError for what the network was not made for, ConfigError for what is no method."""
        if not isinstance(request.method, Planned):
            raise ConfigError(f"{request.method!r} is no decoding method of {self.info.name}")
        holes = request.prompt.count(None)
        length = len(request.prompt) - (holes if isinstance(request.method.how, DreamOn) else 0)
        if length + request.max_new_tokens > self.published.context:
            raise RequestError(
                f"the prompt has {len(request.prompt)} tokens and {request.max_new_tokens} more are asked for: "
                f"{self.published.name} reads at most {self.published.context}"
            )

    def _begun(self, request: Request) -> Begun:
        """The generation of a request."""
        planned, published, seeds = request.method, self.published, [request.sampling.seed]
        assert isinstance(planned, Planned)
        how, most, drop = planned.how, request.max_new_tokens, frozenset(published.stop_ids)
        noise = None if isinstance(published.network, DiffusionGemma) else published.mask_id
        if None in request.prompt:
            if isinstance(how, DreamOn):
                return Begun(fill(published, [request.prompt], most, how, seeds), 0, True, noise, drop)
            assert isinstance(how, Preset)
            model = model_of(published)
            parts = decoding(how, model, request.prompt.count(None) + most)
            run = Run(model, [request.prompt], most, parts, seeds)
            end = len(request.prompt) + most
            return Begun(run, len(self._lead(request.prompt)), True, noise, drop, end)
        ids = [token for token in request.prompt if token is not None]
        generation = begin(published, [ids], most, how, seeds, planned.verifier)
        return Begun(generation, len(ids), False, noise)

    def _lead(self, columns: Sequence[int | None]) -> list[int]:
        """The end token in front of a text, which is none of it."""
        first = self._first(needed=True)
        return first if first and list(columns[:1]) == first else []

    def _first(self, *, needed: bool = False) -> list[int]:
        """What stands in front of a text: models trained on documents, and those with a shift, look back to it.

        Raises:
            CheckpointError: there is none.
        """
        if not self.documents and not (needed and self.published.shift):
            return []
        if not self.published.stop_ids and self.published.shift:
            raise CheckpointError(f"{self.info.name} names no end token for texts to stand behind: export it again")
        return list(self.published.stop_ids[:1])

    def _method(self, options: Options) -> tuple[Method | UniformCanvases, str]:
        """The preset asked for, or the usual one, with the options' numbers; and its name."""
        options.refuse(TAKES, f"{self.info.name} ({self.published.family})")
        name = options.preset or self.info.presets[0]
        return self._set(named(self.published, name), name, options), name

    def _set(self, how: Any, name: str, options: Options) -> Any:
        """A method with the numbers that the options give."""
        asked = {field: getattr(options, option) for option, field in SETTINGS.items()}
        given = {field: value for field, value in asked.items() if value is not None}
        if options.cfg_scale is not None:
            given["guidance"] = options.cfg_scale
        chosen = [option for option in CHOICES if getattr(options, option) is not None]
        if len(chosen) > 1:
            raise ConfigError(f"{chosen[0]} and {chosen[1]} are two rules for the same choice: give one")
        if chosen:
            given |= _choice(how, name, chosen[0], getattr(options, chosen[0]))
        block = self.published.block
        if isinstance(how, Preset) and how.block is not None and block is not None and "block" not in given:
            given["block"] = math.gcd(how.block, block)
        return tuned(how, name, **given) if given else how


class Planned:
    """A method with what it needs beside the model."""

    def __init__(self, how: Any, verifier: PublishedModel | None = None) -> None:
        self.how, self.verifier = how, verifier


def _choice(how: Any, name: str, option: str, value: float) -> dict[str, Any]:
    """The fields of a method that an option of `CHOICES` changes.

    Raises:
        ConfigError: a method that chooses its columns otherwise.
    """
    kind, number = CHOICES[option]
    holder = how.how if not isinstance(how, Preset) and isinstance(getattr(how, "how", None), Preset) else how
    if isinstance(holder, Preset):
        same = isinstance(holder.choose, kind)
        choice: Choice = replace(holder.choose, **{number: value}) if same else kind(**{number: value})
        return {"choose": choice}
    if option == "threshold" and "tau" in {field.name for field in fields(how)}:
        return {"tau": value}
    raise ConfigError(f"the preset {name} has no {option.replace('_', '-')}: leave it out")


def fills(published: PublishedModel) -> bool:
    """Whether masks anywhere in a text can be filled: not by networks that predict the next column from the past."""
    one_by_one = isinstance(published.attention, CausalPattern) and published.shift
    return published.mask_id is not None and not one_by_one


def exported_here(config: dict[str, Any]) -> bool:
    """Whether the fields that our exports write say that a model was made from a causal one on documents."""
    return None not in (config.get("is_causal"), config.get("mask_token_id"), config.get("shift_logits"))
