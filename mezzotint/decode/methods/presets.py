"""Presets of masked diffusion models: one record each, built into a rule, a plan and a cache for a network.

Numbers are the authors'; where papers and published loops differ, the paper's are here and a field says how to get the
other.  Every preset honours temperature, top-p, top-k and seeds.
"""

from collections.abc import Sequence
from typing import Literal

from pydantic import Field
from torch import Tensor

from mezzotint.config import config
from mezzotint.decode.methods.choices import (
    Bounded,
    ByFactor,
    Cache,
    Choice,
    DualCache,
    ExactCache,
    Klass,
    Leap,
    NoCache,
    Scheduled,
    SortedCache,
    ThinnedSuffix,
    Threshold,
)
from mezzotint.decode.methods.llada21_editing import EditedBlocks
from mezzotint.decode.plan import (
    Blocks,
    Budget,
    Down,
    Over,
    Plan,
    Shrinking,
    Sliding,
    caught_up,
    even,
    floored,
    following,
    linear,
    multiples,
)
from mezzotint.decode.propose import (
    Draw,
    EndTokensLast,
    GumbelOrder,
    Propose,
    RandomOrder,
    Score,
    margin_of,
    negative_entropy,
    probable,
)
from mezzotint.decode.revise import Overwrite
from mezzotint.decode.rule import Rule, Seeded, Unmask, ancestral
from mezzotint.decode.run import Decoding, MaskedModel, Run
from mezzotint.decode.select import Leftward
from mezzotint.decode.shapers import Ban, Beside, Filter, Temperature, TopK, TopP
from mezzotint.errors import ConfigError
from mezzotint.schedules import Linear

SCORES: dict[str, Score] = {"probability": probable, "margin": margin_of, "entropy": negative_entropy}
BUDGETS: dict[str, Budget] = {"linear": linear, "floored": floored, "caught-up": caught_up, "shrinking": Shrinking()}


@config
class Preset:
    """How to decode a masked model."""

    choose: Choice = Scheduled()
    confidence: Literal["probability", "margin", "entropy", "random", "ancestral"] = "probability"
    """What makes a column sure; `random` ranks by chance; `ancestral` reveals each column by itself."""
    filtered: bool = False
    """Confidence under the temperature and filters that tokens are drawn with (Dream, SDAR), not beside them."""
    block: int | None = Field(default=None, gt=0)
    """Columns that are written at a time; null: the network's own block, or the whole answer."""
    steps: int | None = Field(default=None, gt=0)
    """Steps for the whole answer; null: as many as tokens."""
    steps_per_block: int | None = Field(default=None, gt=0)
    """Steps per block instead."""
    schedule: Literal["linear", "floored", "caught-up", "shrinking", "block"] = "linear"
    """How commits are shared out over steps; `block` shares out a full block whatever is open in it."""
    temperature: float = Field(default=0.0, ge=0)
    top_p: float = Field(default=1.0, gt=0, le=1)
    top_k: int = Field(default=0, ge=0)
    """0: no limit."""
    top_p_first: bool = False
    """Whether top-p comes before top-k (Dream) or after it (SDAR)."""
    order_temperature: float = Field(default=0.0, ge=0)
    """Draw the order of columns, by softmax(confidence / this), instead of taking the surest."""
    cache: Cache = NoCache()
    guidance: float = Field(default=0.0, ge=0)
    """Classifier-free: how far to go from what the network says without the prompt to what it says with it."""
    edit: float | None = None
    """Overwrite decided columns for which another token is surer than this."""
    posts: int = Field(default=16, ge=0)
    """With `edit`: passes over a full block at most."""
    seeded: bool = False
    """The first column of a block is written first, for networks that predict from the column before."""
    ends: Literal["free", "last", "never"] = "free"
    """Whether end tokens are written as they come, only where nothing else is left to write, or not at all."""
    halt: bool = True
    """Stop at the first end token with nothing undecided before it."""
    patient: bool = True
    """Go on after the last step while something is open; otherwise it stays so."""
    sliding: bool = False
    """The block begins at the first open column in every step."""
    leftward: float = Field(default=0.0, ge=0)
    """What a column's confidence loses per column of distance from the first open one."""

    def begin(
        self, model: MaskedModel, prompts: Sequence[Sequence[int]], length: int, seeds: Sequence[int] | None = None
    ) -> Run:
        """Continue every prompt by at most `length` tokens.

        Raises:
            ConfigError: fields that contradict each other or the model.
            CanvasError: no prompt, or a length that is not positive.
        """
        return Run(model, prompts, length, decoding(self, model, length), seeds)


def decoding(preset: Preset, model: MaskedModel, length: int) -> Decoding:
    """The parts for an answer of `length` tokens.

    Raises:
        ConfigError: fields that contradict each other.
    """
    if preset.edit is not None and preset.confidence == "ancestral":
        raise ConfigError("cannot edit what is revealed by chance: use another confidence, or edit=null")
    size = preset.block or model.block or length
    if model.block is not None and model.block % size:
        raise ConfigError(
            f"cannot write in blocks of {size}: the network was trained in blocks of {model.block}; ask for "
            f"--block {model.block}, or a divisor of it"
        )
    place = following if model.block is None else multiples
    return Decoding(
        rule=_rule(preset, model, size),
        plan=EditedBlocks(size, preset.posts, place=place) if preset.edit is not None else _plan(preset, size, model),
        policy=preset.cache.build(model.block, preset.seeded),
        guidance=preset.guidance,
        halt=preset.halt and preset.ends != "never",
        settled=preset.edit is not None,
        focus=preset.edit is None and not preset.leftward and not preset.choose.needs_whole_window,
    )


def _plan(preset: Preset, size: int, model: MaskedModel) -> Plan:
    if preset.sliding:
        return Sliding(size)
    shrinking = preset.schedule == "shrinking"
    return Blocks(
        size,
        preset.steps_per_block or preset.steps,
        Over(size) if preset.schedule == "block" else BUDGETS[preset.schedule],
        place=following if model.block is None else multiples,
        times=Down() if shrinking else even,
        share=preset.steps_per_block is None,
        patient=preset.patient,
        # a cache wants to see a window's first step
        lazy=preset.choose.may_write_nothing and preset.cache.kind == "none",
    )


def _rule(preset: Preset, model: MaskedModel, size: int) -> Rule:
    ban, filters = Ban(_banned(preset, model)), _filters(preset)
    score = SCORES.get(preset.confidence, probable)
    draw = Draw(1.0 if preset.temperature else 0.0, score)
    if preset.confidence == "ancestral":
        return ancestral(Linear(eps=0), model.prior, Beside(draw, (ban, *filters)))
    propose: Propose = draw if preset.filtered or not filters else Beside(draw, filters, score)
    if preset.ends == "last":
        propose = EndTokensLast(propose, model.among(*model.stop))
    if preset.confidence == "random":
        propose = RandomOrder(propose)
    if preset.order_temperature:
        propose = GumbelOrder(propose, preset.order_temperature)
    shapers = (ban, *filters) if preset.filtered else (ban,)
    edit = None if preset.edit is None else Overwrite(preset.edit)
    select = preset.choose.build()
    select = Leftward(select, preset.leftward) if preset.leftward else select
    rule = Unmask(propose, select, shapers=shapers, edit=edit)
    made = preset.choose.rule(rule, preset.confidence == "entropy")
    return Seeded(rule, model.block or 1) if preset.seeded and made is rule else made


def _filters(preset: Preset) -> tuple[Filter, ...]:
    heat = (Temperature(preset.temperature),) if preset.temperature else ()
    top_k = (TopK(preset.top_k),) if preset.top_k else ()
    top_p = (TopP(preset.top_p),) if preset.top_p < 1 else ()
    return (*heat, *top_p, *top_k) if preset.top_p_first else (*heat, *top_k, *top_p)


def _banned(preset: Preset, model: MaskedModel) -> Tensor:
    """Bool[V]: the mask, rows of the vocabulary that stand for nothing, and end tokens where they are not wanted."""
    return model.never | model.among(*(model.stop if preset.ends == "never" else ()))


_LEAP = Preset(choose=Leap(), block=32)
_FAST = Preset(choose=Threshold(tau=0.9), block=32, cache=DualCache())

PRESETS: dict[str, Preset] = {
    "llada-ref": Preset(block=32),
    "llada-random": Preset(block=32, confidence="random"),
    "llada-fast": _FAST,
    "llada-factor": Preset(choose=ByFactor(f=1.0), block=32, cache=DualCache()),
    "llada-leap": _LEAP,
    "llada-klass": Preset(choose=Klass(tau=0.6, eps=0.015, history=2), block=64),
    "dpad": Preset(choose=Threshold(tau=0.9), block=32, cache=ThinnedSuffix()),
    "dparallel": Preset(choose=Threshold(tau=0.5), block=32),
    "dream-ref": Preset(
        choose=Scheduled(exact=True),
        confidence="entropy",
        filtered=True,
        schedule="shrinking",
        temperature=0.2,
        top_p=0.95,
        top_p_first=True,
    ),
    "dream-origin": Preset(confidence="ancestral", schedule="shrinking", temperature=0.2, top_p=0.95, top_p_first=True),
    "dream-fast": Preset(choose=Threshold(tau=0.9), block=32, filtered=True, cache=DualCache(), seeded=True),
    "eb": Preset(choose=Bounded(gamma=0.1), confidence="entropy"),
    "diffullama": Preset(confidence="ancestral", steps=64, temperature=0.9, top_p=0.9),
    "sdar": Preset(
        choose=Threshold(tau=0.9, least="schedule"),
        filtered=True,
        temperature=1.0,
        schedule="block",
        cache=ExactCache(),
    ),
    "fdllm2": Preset(choose=Threshold(tau=0.9), block=8, filtered=True, top_p=0.95, cache=ExactCache(), seeded=True),
    "llada2": Preset(choose=Threshold(tau=0.95), cache=ExactCache()),
    "llada21-q": Preset(choose=Threshold(tau=0.7), edit=0.5, cache=ExactCache()),
    "llada21-s": Preset(choose=Threshold(tau=0.5), edit=0.0, cache=ExactCache()),
    "wedlm": Preset(
        choose=Threshold(tau=-0.4),
        confidence="entropy",
        block=16,
        sliding=True,
        leftward=0.02,
        temperature=0.2,
        cache=SortedCache(),
    ),
    "rnd1": Preset(choose=Scheduled(exact=True), confidence="entropy", filtered=True, schedule="floored", steps=256),
    "nemotron": Preset(choose=Threshold(tau=0.9), block=32, cache=ExactCache()),
    "diffcoder": Preset(choose=Threshold(tau=0.95), cache=ExactCache()),
}
"""By name.  What a network's own block is, its checkpoint says."""
