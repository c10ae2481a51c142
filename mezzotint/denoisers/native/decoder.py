"""A Llama-shaped decoder on the native kernels, straight from the quantised blocks of its checkpoint."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mezzotint.checkpoints import Checkpoint
from mezzotint.checkpoints.llama_variants import refuse_variants
from mezzotint.denoisers.native.binding import BLOCK, Floats, widest_head
from mezzotint.denoisers.native.runtime import NativeLinear, ThreadPool
from mezzotint.denoisers.native.stack import NativeLayer, NativeStack, StackShape
from mezzotint.errors import CheckpointError


class NativeUnsupported(CheckpointError):
    """The checkpoint has parts that the native kernels do not know; the message names one."""


class NativeDecoder:
    """The causal network of a checkpoint with its key/value store; see `denoisers/causal_network.py` for the calls.

    The output head is the embedding where the checkpoint ties them.
    """

    invariant = True

    def __init__(self, checkpoint: Checkpoint, pool: ThreadPool, capacity: int, lanes: int = 1) -> None:
        config = checkpoint.config
        _check_supported(checkpoint)
        self.pool = pool
        self.vocab: int = config["vocab_size"]
        self.width: int = config["hidden_size"]
        self.capacity = min(capacity, int(config["max_position_embeddings"]))
        self.eps = float(config["rms_norm_eps"])
        heads = int(config["num_attention_heads"])
        shape = StackShape(
            width=self.width,
            hidden=config["intermediate_size"],
            layers=config["num_hidden_layers"],
            heads=heads,
            kv_heads=config["num_key_value_heads"],
            head_dim=int(config.get("head_dim") or self.width // heads),
            capacity=self.capacity,
            lanes=lanes,
            eps=self.eps,
            theta=float(config["rope_theta"]),
        )
        self.layers = [_layer(checkpoint, f"model.layers.{i}.") for i in range(shape.layers)]
        self.embedding = _linear(checkpoint, ["model.embed_tokens.weight"], head=True)
        tied = config.get("tie_word_embeddings", True)
        self.head = self.embedding if tied else _linear(checkpoint, ["lm_head.weight"], head=True)
        self.norm = checkpoint.tensor("model.norm.weight").astype(np.float32)
        self.stack = NativeStack(shape, self.layers, pool)
        self._logits = np.empty((0, self.vocab), np.float32)

    def length(self, lane: int = 0) -> int:
        return self.stack.length(lane)

    def truncate(self, length: int, lane: int = 0) -> None:
        self.stack.truncate(length, lane)

    def commit(self, rows: Sequence[int], lane: int = 0) -> None:
        self.stack.commit(rows, lane)

    def run(
        self,
        tokens: Sequence[int],
        positions: NDArray[Any],
        sees: NDArray[Any],
        lanes: NDArray[Any] | None = None,
        taps: Sequence[int] = (),
    ) -> tuple[Floats, Floats]:
        lanes = np.zeros(len(tokens), np.int32) if lanes is None else lanes
        return self.stack.run(self.embedding.rows(tokens), positions, sees, lanes, taps)

    def logits(self, hidden: Floats) -> Floats:
        if len(hidden) > len(self._logits):
            self._logits = np.empty((len(hidden), self.vocab), np.float32)
        return self.head.apply(self.pool, hidden, self.norm, self.eps, out=self._logits)


def _check_supported(checkpoint: Checkpoint) -> None:
    """Raises CheckpointError for networks that nothing here computes, NativeUnsupported for those that torch does."""
    refuse_variants(checkpoint)
    c, names = checkpoint.config, checkpoint.names()
    heads, stored, dim = c["num_attention_heads"], c["num_key_value_heads"], c["head_dim"]
    width, inner, vocab = c["hidden_size"], c["intermediate_size"], c["vocab_size"]
    reasons = {
        "biases": any(name.endswith(".bias") for name in names),
        "norms of queries and keys": any("q_norm" in name or "k_norm" in name for name in names),
        f"heads of {dim} channels": dim % BLOCK or dim > widest_head(),
        f"{heads} heads on {stored}": heads % stored or heads // stored not in (1, 2, 3, 4, 8),
        f"layers of {width} and {inner} channels": width % BLOCK or inner % BLOCK,
        f"vocabulary of {vocab}": vocab % 8,
    }
    reason = next((text for text, holds in reasons.items() if holds), None)
    if reason is not None:
        raise NativeUnsupported(f"{checkpoint.name}: the native kernels know no {reason}: use the torch backend")


def _layer(checkpoint: Checkpoint, at: str) -> NativeLayer:
    attention, mlp = at + "self_attn.", at + "mlp."
    return NativeLayer(
        qkv=_linear(checkpoint, [attention + f"{x}_proj.weight" for x in "qkv"]),
        out=_linear(checkpoint, [attention + "o_proj.weight"]),
        gate_up=_linear(checkpoint, [mlp + "gate_proj.weight", mlp + "up_proj.weight"], alternate=True),
        down=_linear(checkpoint, [mlp + "down_proj.weight"]),
        attention_norm=checkpoint.tensor(at + "input_layernorm.weight").astype(np.float32),
        mlp_norm=checkpoint.tensor(at + "post_attention_layernorm.weight").astype(np.float32),
    )


def _linear(checkpoint: Checkpoint, names: list[str], *, alternate: bool = False, head: bool = False) -> NativeLinear:
    """One matrix of several tensors, one below the other, or in turns of 32 rows each; a head has eight bits."""
    join = alternated if alternate else np.concatenate
    found = [checkpoint.blocks(name) for name in names]
    kinds = {b.kind if b is not None else "" for b in found}
    if kinds == {"q4_1"} and not head:
        blocks = [b for b in found if b is not None]
        minima = [b.minimum for b in blocks if b.minimum is not None]
        return NativeLinear(join([b.codes for b in blocks]), join([b.scale for b in blocks]), join(minima))
    if kinds == {"q8_0"}:
        blocks = [b for b in found if b is not None]
        return NativeLinear(join([b.codes for b in blocks]), join([b.scale for b in blocks]), None, head=head)
    return NativeLinear.from_float(join([checkpoint.tensor(name) for name in names]), head=head)


def alternated(parts: list[NDArray[Any]]) -> NDArray[Any]:
    """Rows of arrays of the shape of the first, in turns of 32: so one thread makes silu(gate) * up."""
    n, rest = len(parts[0]), parts[0].shape[1:]
    return np.stack([p.reshape(n // BLOCK, BLOCK, *rest) for p in parts], 1).reshape(len(parts) * n, *rest)
