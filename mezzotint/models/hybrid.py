"""Builds what `api` hands out: networks on a backend, and modes from plain options.

Torch is imported only where it computes: it takes longer to load than the default model.
"""

import contextlib
import json
from importlib import resources
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from mezzotint.checkpoints import Checkpoint
from mezzotint.config import write_json
from mezzotint.denoisers.causal_network import CausalNetwork
from mezzotint.denoisers.draft_network import DrafterShape, DraftNetwork
from mezzotint.denoisers.hybrid.adapter_file import load_adapter
from mezzotint.engine.hybrid.cost_model import Costs, measured
from mezzotint.engine.hybrid.modes import Mode
from mezzotint.errors import CheckpointError, ConfigError, RequestError
from mezzotint.extras import require

BACKENDS = ("auto", "native", "torch")
CONTEXT = 4096
"""Most tokens that a store is made for; memory is taken as it fills."""
DRAFT_BITS = 4
"""Of the drafter's weights on the native kernels: a rougher guess, sooner."""
LONGEST_BLOCK = 64
"""Rows that one pass of a network takes."""


def networks(checkpoint: Checkpoint, backend: str, threads: int) -> tuple[CausalNetwork, DraftNetwork | None, str]:
    """The causal network, the drafter where one is shipped for this checkpoint, and the name of the backend used."""
    adapter, why = shipped(checkpoint), "the backend torch"
    if backend != "torch":
        from mezzotint.denoisers.native.build import NativeUnavailable
        from mezzotint.denoisers.native.decoder import NativeDecoder, NativeUnsupported
        from mezzotint.denoisers.native.drafter import NativeDrafter
        from mezzotint.denoisers.native.runtime import ThreadPool

        try:
            network = NativeDecoder(checkpoint, ThreadPool(threads), CONTEXT)
        except (NativeUnavailable, NativeUnsupported) as error:
            if backend == "native":
                raise
            why = f"{error}; otherwise {checkpoint.name}"
        else:
            if adapter is None:
                return network, None, "native"
            shape, weights = _fitting(adapter, checkpoint)
            return network, NativeDrafter(shape, weights, network, DRAFT_BITS), "native"
    require("torch", why)
    return *_eager(checkpoint, adapter, threads), "torch"


def costs(checkpoint: Checkpoint, network: CausalNetwork, drafter: DraftNetwork, threads: int) -> Costs:
    """What rounds of drafting and verifying cost here: measured once per machine, kernels and model, and kept.

    The stores of both must be empty.
    """
    from mezzotint.denoisers.native.build import library

    kept = library().with_name(f"{library().stem}-pace-{checkpoint.name}-{threads}.json")
    try:
        found = json.loads(kept.read_text())
        if (
            isinstance(found, list)
            and len(found) > 1
            and all(isinstance(x, float) and 0 < x < float("inf") for x in found)
        ):
            return tuple(found)
    except (OSError, ValueError):
        pass  # none yet, or a damaged one: what it says is quickly found again
    new = measured(network, drafter)
    with contextlib.suppress(OSError):  # a folder that cannot be written: measured at every start
        write_json(kept, new)
    return new


def _eager(checkpoint: Checkpoint, adapter: Path | None, threads: int) -> tuple[CausalNetwork, DraftNetwork | None]:
    import torch

    from mezzotint.denoisers.hybrid.torch_backend import EagerDecoder, EagerDrafter, restored
    from mezzotint.denoisers.load import load_decoder

    torch.set_num_threads(threads)
    decoder = load_decoder(checkpoint)
    network = EagerDecoder(decoder, CONTEXT)
    if adapter is None:
        return network, None
    shape, weights = _fitting(adapter, checkpoint)
    return network, EagerDrafter(restored(shape, weights, decoder.embed.weight.detach()))


def _fitting(adapter: Path, checkpoint: Checkpoint) -> tuple[DrafterShape, dict[str, NDArray[Any]]]:
    """Sizes and weights of an adapter.

    Raises:
        CheckpointError: damaged, or made for another model.
    """
    shape, weights, metadata = load_adapter(adapter)
    c = checkpoint.config
    fits = shape.width == c["hidden_size"] and max(shape.taps) <= c["num_hidden_layers"]
    if not fits or not 0 <= weights["ids"].min() <= weights["ids"].max() < c["vocab_size"]:
        raise CheckpointError(f"the adapter {adapter} is for {metadata.get('base')}: it does not fit {checkpoint.name}")
    return shape, weights


def shipped(checkpoint: Checkpoint) -> Path | None:
    """The adapter for a checkpoint: beside it, or inside this package under the checkpoint's name."""
    beside = checkpoint.path / "adapter.safetensors" if checkpoint.path.is_dir() else None
    if beside is not None and beside.exists():
        return beside
    inside = Path(str(resources.files("mezzotint") / "assets" / f"{checkpoint.name}.safetensors"))
    return inside if inside.exists() else None


def diffusion(
    block: int = 6,
    rule: str = "threshold",
    level: float | None = None,
    steps: int | None = None,
    correct: bool = True,
    accept: float = 0.1,
    gate: float | None = None,
) -> Mode:
    """A mode from plain options.

    Args:
        block: columns of a block, the last settled one included.
        rule: which columns a denoising step decides: "threshold", "factor", "entropy" or "topk".
        level: the rule's number: a probability, a factor, nats, or tokens a step.
        steps: most denoising steps of a block, after which open columns are left to the next block; without a number
            one for "threshold", and as many as it takes for the others.
        correct: let the network reopen what it finds unlikely.
        accept: least probability, as a share of the network's first choice, that is not reopened; the lower, the faster
            and the rougher the text.
        gate: least chance, by the drafter, that a column and all before it are right; later columns are left to the
            next block; without a number 0.1 for "threshold", and 0 for the others.

    Raises:
        RequestError: a number out of range.
        ConfigError: an unknown rule.
    """
    from mezzotint.engine.hybrid.block_diffusion import Diffusion
    from mezzotint.engine.hybrid.block_rules import EntropyBound, Factor, Threshold, TopK

    if not 1 <= block <= LONGEST_BLOCK:
        raise RequestError(f"cannot write in blocks of {block}: give 1 to {LONGEST_BLOCK}")
    if steps is not None and steps < 1:
        raise RequestError(f"cannot denoise a block in {steps} steps: give at least 1")
    if not 0 <= accept <= 1:
        raise RequestError(f"cannot accept from {accept} on: give a share from 0 to 1")
    if gate is not None and not 0 <= gate <= 1:
        raise RequestError(f"cannot gate at {gate}: give a chance from 0 to 1")
    makers: dict[str, tuple[float, Any]] = {
        "threshold": (0.2, Threshold),
        "factor": (1.0, Factor),
        "entropy": (0.1, EntropyBound),
        "topk": (2.0, lambda x: TopK(int(x))),
    }
    if rule not in makers:
        raise ConfigError(f"unknown rule {rule!r}: use {', '.join(makers)}")
    default, make = makers[rule]
    number = default if level is None else level
    if not 0 <= number < float("inf") or (rule == "threshold" and number > 1) or (rule == "topk" and number < 1):
        raise RequestError(f"rule {rule} cannot work with {number}")
    if steps is None:
        steps = 1 if rule == "threshold" else LONGEST_BLOCK
    if gate is None:
        gate = 0.1 if rule == "threshold" else 0.0
    return Diffusion(make(number), block, steps, correct, accept, gate)
