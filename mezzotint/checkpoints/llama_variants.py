"""Which checkpoints are Llama-shaped networks; needs no torch, so that the native backend can ask."""

from typing import Any

from mezzotint.checkpoints import Checkpoint
from mezzotint.errors import CheckpointError

LLAMA_SHAPED = ("llama", "mistral", "qwen2", "qwen3")
"""Values of `model_type` whose network is that of `denoisers/networks/llama.py`; others share names, not arithmetic."""


def refuse_variants(checkpoint: Checkpoint) -> None:
    """Refuse other networks than Llama-shaped ones, and settings that change the computation in unknown ways.

    Raises:
        CheckpointError: such a checkpoint; it names the setting.
    """
    config = checkpoint.config
    if config.get("model_type") not in LLAMA_SHAPED:
        raise CheckpointError(
            f"{checkpoint.path} is of type {config.get('model_type')!r}: supported are {', '.join(LLAMA_SHAPED)}"
        )
    rope: dict[str, Any] = config.get("rope_scaling") or {}
    variants = {
        "rope_scaling": rope.get("rope_type", rope.get("type", "default")) not in ("default", "none"),
        "hidden_act": config.get("hidden_act", "silu") not in ("silu", "swish"),
        "sliding_window": slides(config),
        "partial_rotary_factor": config.get("partial_rotary_factor", 1.0) != 1.0,
    }
    for key, present in variants.items():
        if present:
            raise CheckpointError(f"{checkpoint.path} sets {key} to {config.get(key)!r}, which is not supported")


def slides(config: dict[str, Any]) -> bool:
    """Whether some layer reads only a window; Qwen configurations carry a window they do not use."""
    switched_on = config.get("use_sliding_window", config.get("model_type") == "mistral")
    return bool(config.get("sliding_window")) and bool(switched_on)
