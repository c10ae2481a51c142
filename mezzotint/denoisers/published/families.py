"""The registry of published families: how checkpoints are recognised, read and, unless asked otherwise, decoded.

Sizes come from a checkpoint's own configuration.  Ids here are used only where neither the configuration nor the
tokenizer names one, and only if they lie inside the embedding.

To add a family of published checkpoints: a row here, its `model_type` in `_STARTS`, a reader of its configuration in
`config_schemas.py` if no schema there fits, and, if its authors decode in a way of their own, a preset in
decode/methods/registry.py, which the row names.  Nothing else lists families of checkpoints.  A family that is trained
here gets a card: families/__init__.py says how.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from mezzotint.denoisers.published import config_schemas, gemma_schema
from mezzotint.denoisers.published.attention_patterns import BlockCausalPattern, CausalPattern, FullPattern, Pattern
from mezzotint.denoisers.published.config_schemas import Schema
from mezzotint.errors import CheckpointError, ConfigError

PatternOfBlock = Callable[[int | None], Pattern]
"""The block length -> who sees whom."""


def full(block: int | None) -> Pattern:
    """Every column sees every column."""
    return FullPattern()


def causal(block: int | None) -> Pattern:
    """Columns see what was read before them."""
    return CausalPattern()


def block_causal(block: int | None) -> Pattern:
    """Columns see their block and those before it."""
    return BlockCausalPattern(block or 1)


@dataclass(frozen=True)
class FamilyRow:
    """What is known of a family."""

    title: str
    schema: Schema
    sight: PatternOfBlock
    method: str
    """The preset of decode/methods/registry.py that its authors decode with; `eb` where they have none of their own."""
    shift: bool = False
    """Whether row i of the logits predicts column i + 1, as the causal networks they come from."""
    mask: int | None = None
    stops: tuple[int, ...] = ()
    """Ids that end an answer, beside those of the configuration."""
    pad: int | None = None
    block: int | None = None
    """Columns of a block where the configuration has no field for it."""
    block_field: str | None = None
    """The field that has it."""
    expand: tuple[str, int] | None = None
    """Name and id of the token that stands for two masks; an end token then stands for nothing (DreamOn)."""
    plain_mask: bool = False
    """The mask is an id that may also be text, or is reserved without a name: the tokenizer cannot confirm it."""


QWEN_END, QWEN_TURN = 151643, 151645
"""`<|endoftext|>` and `<|im_end|>` of Qwen's vocabulary."""
_S = config_schemas
_DREAM = FamilyRow(
    "Dream, Dream-Coder, DiffuCoder",
    _S.llama,
    full,
    "dream-ref",
    shift=True,
    mask=151666,
    stops=(QWEN_END, QWEN_TURN),
    pad=QWEN_END,
)
_LLADA = FamilyRow(
    "LLaDA, LLaDA 1.5, iLLaDA", _S.llada, full, "llada-ref", mask=126336, stops=(126081, 126348), pad=126081
)

FAMILIES: dict[str, FamilyRow] = {
    "llada": _LLADA,
    "mmada": replace(_LLADA, title="MMaDA"),
    "llada_moe": FamilyRow("LLaDA-MoE", _S.llada_moe, full, "llada-ref", mask=156895, stops=(156892,), pad=156892),
    "llada2": FamilyRow(
        "LLaDA2.0, 2.1, 2.2",
        _S.llada2,
        block_causal,
        "llada2",
        mask=156895,
        stops=(156892,),
        pad=156892,
        block=32,
        block_field="block_size",
    ),
    "dream": _DREAM,
    "dreamon": replace(_DREAM, title="DreamOn", method="dreamon", expand=("<|expand|>", 151667)),
    "diffullama": FamilyRow("DiffuLLaMA", _S.llama, full, "diffullama", shift=True, mask=811, plain_mask=True),
    "diffugpt": FamilyRow("DiffuGPT", _S.gpt2, full, "diffullama", shift=True),
    "sdar": FamilyRow(
        "SDAR, TraDo",
        _S.llama,
        block_causal,
        "sdar",
        mask=151669,
        stops=(QWEN_TURN,),
        pad=QWEN_END,
        block=4,
        block_field="block_size",
        plain_mask=True,
    ),
    "idlm": FamilyRow(
        "I-DLM", _S.llama, causal, "idlm", shift=True, mask=151669, stops=(QWEN_TURN,), pad=QWEN_END, plain_mask=True
    ),
    "fast_dllm": FamilyRow(
        "Fast-dLLM v2",
        _S.llama,
        block_causal,
        "fdllm2",
        shift=True,
        mask=151665,
        stops=(QWEN_TURN,),
        block=32,
        block_field="bd_size",
    ),
    "wedlm": FamilyRow("WeDLM", _S.llama, causal, "wedlm", mask=151665, plain_mask=True),
    "rnd1": FamilyRow("RND1", _S.llama, full, "rnd1", shift=True, mask=151669, pad=QWEN_END, plain_mask=True),
    "diffcoder": FamilyRow("Stable-DiffCoder", _S.llama, block_causal, "diffcoder", mask=5, block=4, plain_mask=True),
    "masked": FamilyRow("a masked diffusion model", _S.llama, full, "eb"),
    "shifted_blocks": FamilyRow(
        "a block diffusion model with shifted logits",
        _S.llama,
        block_causal,
        "fdllm2",
        shift=True,
        block=32,
        block_field="block_size",
    ),
    "open_dcoder": FamilyRow(
        "Open-dCoder; a masked diffusion model with shifted logits", _S.llama, full, "dream-ref", shift=True
    ),
    "diffusion_gemma": FamilyRow(
        "DiffusionGemma", gemma_schema.diffusion_gemma, full, "dgemma", pad=0, block=256, block_field="canvas_length"
    ),
    "ar": FamilyRow("a causal language model", _S.llama, causal, "eb", shift=True),
}


GROWING = {"dream": "dreamon"}
"""Families whose checkpoints may also have been taught to expand masks, and what they are then."""


def family_of(config: dict[str, Any], file: str) -> str:
    """The family that a configuration belongs to.

    Raises:
        CheckpointError: none of those known; a repository that asks to run its own code is one of these.
    """
    kind = str(config.get("model_type", "")).lower()
    stated = config.get("architectures")
    named = " ".join(str(name) for name in stated).lower() if isinstance(stated, list) else ""
    if kind in ("llada", "lladamoe", "llada_moe"):
        # the published LLaDA-MoE says `llada` too
        return "llada_moe" if "moe" in named or kind != "llada" or config.get("num_experts") else "llada"
    for start, family in _STARTS.items():
        if kind.startswith(start):
            return family
    if kind == "gpt2" and "discretediffusion" in named:
        return "diffugpt"
    if "wedlm" in named:
        return "wedlm"
    if kind in _CAUSAL:
        shift = config.get("shift_logits")
        if config.get("mask_token_id") is None or not isinstance(config.get("is_causal"), bool):
            return "ar"
        if config["is_causal"]:
            # a causal model with a mask of no use has no reason to say where its logits stand
            return "ar" if shift is None else "idlm" if shift else "wedlm"
        return _TURNED[bool(config.get("block_size")), bool(shift)]
    remedy = "it asks to run code of its own (auto_map), which is never done: " if config.get("auto_map") else ""
    raise CheckpointError(
        f"{file} has model_type {config.get('model_type')!r}, which is not known here: {remedy}"
        f"known are {', '.join(sorted(FAMILIES))}"
    )


def usual_method(config: dict[str, Any], family: str) -> str:
    """The preset that a checkpoint is decoded with unless asked otherwise.

    Exports of models that were trained here from a causal one name that of their card in `decoding_method`; a family
    alone, which is told from attention, blocks and shift, would give one preset to several cards.

    Args:
        config: what config.json says.
        family: from `family_of`, or named by the user.
    """
    stated = config.get("decoding_method")
    return stated if isinstance(stated, str) else known(family).method


def known(family: str) -> FamilyRow:
    """The row of a family.

    Raises:
        ConfigError: there is no such family.
    """
    if family not in FAMILIES:
        raise ConfigError(f"there is no family {family!r}: known are {', '.join(sorted(FAMILIES))}")
    return FAMILIES[family]


_STARTS = {
    "mmada": "mmada",
    "diffusion_gemma": "diffusion_gemma",
    "llada2": "llada2",
    "dream": "dream",
    "fast_dllm": "fast_dllm",
    "sdar": "sdar",
    "rnd1": "rnd1",
    "wedlm": "wedlm",
}
_CAUSAL = ("llama", "mistral", "qwen2", "qwen3", "qwen3_moe")
"""Causal models, unless the user or the fields that `published/export.py` writes say what they were turned into."""
_TURNED = {
    (False, False): "masked",
    (False, True): "open_dcoder",
    (True, False): "sdar",
    (True, True): "shifted_blocks",
}
"""(block by block, shifted logits) -> the family."""
