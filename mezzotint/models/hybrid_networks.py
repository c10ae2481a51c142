"""A causal checkpoint's network and its drafter, on the backend that runs here.

Torch is imported only where it computes: it takes longer to load than the default model.
"""

import contextlib
import json
from importlib import resources
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from mezzotint.checkpoints import Checkpoint, catalogued
from mezzotint.config import write_json
from mezzotint.denoisers.causal_network import CausalNetwork
from mezzotint.denoisers.draft_network import DrafterShape, DraftNetwork
from mezzotint.denoisers.hybrid.adapter_file import load_adapter
from mezzotint.engine.hybrid.cost_model import Costs, measured
from mezzotint.errors import CheckpointError
from mezzotint.extras import require

BACKENDS = ("auto", "native", "torch")
CONTEXT = 32768
"""Most tokens of a lane, where the model reads more; memory is taken as it fills."""
LANES = 16
"""Most requests under way at once."""
STORE_BYTES = 8 << 30
"""Of address space for keys and values; models with large ones get fewer lanes."""
DRAFT_BITS = 4
"""Of the drafter's weights on the native kernels: a rougher guess, sooner."""


def networks(checkpoint: Checkpoint, backend: str, threads: int) -> tuple[CausalNetwork, DraftNetwork | None, str]:
    """The causal network, the drafter where one is shipped for this checkpoint, and the name of the backend used.

    The network has a lane more than `lanes` says, for scoring texts.
    """
    adapter, why = shipped(checkpoint), "the backend torch"
    if backend != "torch":
        from mezzotint.denoisers.native.build import NativeUnavailable
        from mezzotint.denoisers.native.decoder import NativeDecoder, NativeUnsupported
        from mezzotint.denoisers.native.drafter import NativeDrafter
        from mezzotint.denoisers.native.runtime import ThreadPool

        try:
            network = NativeDecoder(checkpoint, ThreadPool(threads), CONTEXT, lanes(checkpoint) + 1)
        except (NativeUnavailable, NativeUnsupported) as error:
            why = f"{error}; otherwise {checkpoint.name}"
            if backend == "native":
                raise
        else:
            if adapter is None:
                return network, None, "native"
            shape, weights = _fitting(adapter, checkpoint)
            return network, NativeDrafter(shape, weights, network, DRAFT_BITS), "native"
    require("torch", why)
    return *_eager(checkpoint, adapter, threads), "torch"


def lanes(checkpoint: Checkpoint) -> int:
    """How many requests its stores have room for at once."""
    c = checkpoint.config
    head = int(c.get("head_dim") or c["hidden_size"] // c["num_attention_heads"])
    stored = int(c["num_hidden_layers"]) * int(c["num_key_value_heads"]) * head
    tokens = min(CONTEXT, int(c["max_position_embeddings"]))
    return max(1, min(LANES, STORE_BYTES // max(1, 4 * stored * tokens)))


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
    network = EagerDecoder(decoder, CONTEXT, lanes(checkpoint) + 1)
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
    """The adapter for a checkpoint: beside it, or inside this package for the checkpoint of this name or content."""
    beside = checkpoint.path / "adapter.safetensors" if checkpoint.path.is_dir() else None
    if beside is not None and beside.exists():
        return beside
    name = catalogued(checkpoint.path) or checkpoint.name
    inside = Path(str(resources.files("mezzotint") / "assets" / f"{name}.safetensors"))
    return inside if inside.exists() else None
