"""What a published checkpoint is and would need in memory, told without reading its weights."""

from typing import Any

import torch
from torch import nn

from mezzotint.checkpoints import Checkpoint
from mezzotint.denoisers.networks.diffusion_gemma import DiffusionGemma
from mezzotint.denoisers.networks.gpt2 import GPT2
from mezzotint.denoisers.networks.llama import Decoder
from mezzotint.denoisers.published.families import known
from mezzotint.denoisers.published.fill_weights import TensorForm, becomes_codes, built, check
from mezzotint.denoisers.published.identify import Overrides, read_facts

FORMS = {
    "float32": TensorForm(torch.float32),
    "bfloat16": TensorForm(torch.bfloat16),
    "float16": TensorForm(torch.float16),
    "int8": TensorForm(torch.bfloat16, int8=True),
}
STACKED = 3
"""Dimensions of a stack of experts; every other parameter has fewer."""
LOGIT = 4
"""Bytes; decisions are taken in 32 bits."""


def inspected(checkpoint: Checkpoint, given: Overrides) -> dict[str, Any]:
    """Family, shape, ids, memory and limits of a checkpoint, as plain values.

    Raises:
        CheckpointError: what `open_published` would raise, all weights' names and shapes included.
    """
    facts = read_facts(checkpoint, given)
    row, network = known(facts.family), built(facts.architecture.make)
    check(network, checkpoint, facts.architecture.keys, facts.unread)
    kinds: dict[str, int] = {}
    for tensor in checkpoint.tensors.values():
        kinds[tensor.dtype] = kinds.get(tensor.dtype, 0) + 1
    return {
        "name": checkpoint.name,
        "path": str(checkpoint.path),
        "family": facts.family,
        "title": row.title,
        "preset": facts.method,
        "model_type": checkpoint.config.get("model_type"),
        "architectures": checkpoint.config.get("architectures"),
        "files": sorted({tensor.file.name for tensor in checkpoint.tensors.values()}),
        "tensors": kinds,
        "unread_tensors": len(facts.unread),
        "parameters": sum(p.numel() for p in network.parameters()),
        "parameters_per_token": _active(network),
        "attention": str(row.sight(facts.block)),
        "shift": row.shift,
        "block": facts.block,
        "mask_id": facts.mask_id,
        "stop_ids": list(facts.stop_ids),
        "pad_id": facts.pad_id,
        "vocab": facts.architecture.vocab,
        "tokenizer": bool(checkpoint.tokenizer.json),
        "chat_template": bool(checkpoint.tokenizer.chat_template),
        "weight_bytes": {name: held(network, form) for name, form in FORMS.items()},
        "canvas": {
            "most_columns": facts.architecture.context,
            "cache_bytes_per_column": {name: _cached(network) * form.dtype.itemsize for name, form in FORMS.items()},
            "logit_bytes_per_column": facts.architecture.vocab * LOGIT,
        },
    }


def held(network: nn.Module, form: TensorForm) -> int:
    """Bytes of a network's parameters in a form."""
    total = 0
    for name, p in network.named_parameters():
        if becomes_codes(network, name, form):
            total += p.numel() + p.numel() // p.shape[-1] * form.dtype.itemsize
        else:
            total += p.numel() * form.dtype.itemsize
    return total


def _active(network: nn.Module) -> int:
    """Parameters that one column passes: of a stack of experts only those chosen."""
    chosen, count = 1, 1
    if isinstance(network, DiffusionGemma):
        chosen, count = network.config.chosen, network.config.experts
    elif isinstance(network, Decoder) and network.config.experts is not None:
        chosen, count = network.config.experts.router.chosen, network.config.experts.count
    return sum(p.numel() * chosen // count if p.dim() == STACKED else p.numel() for p in network.parameters())


def _cached(network: nn.Module) -> int:
    """Numbers that a column leaves in the cache."""
    assert isinstance(network, Decoder | GPT2 | DiffusionGemma)
    cache = network.memory(1, 1) if isinstance(network, DiffusionGemma) else network.cache(1, 1)
    return 2 * sum(cache.layer(depth)[0].numel() for depth in range(len(network.layers)))
