"""A hybrid small enough for exact tests: a random Llama-shaped checkpoint in memory, and several drafters."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mezzotint.checkpoints import Checkpoint, TokenizerSpec
from mezzotint.checkpoints.base import QuantisedBlocks
from mezzotint.denoisers.causal_network import CausalNetwork, Floats, prefill
from mezzotint.denoisers.draft_network import DrafterShape, DraftNetwork, TreeLimits, branches, chain
from mezzotint.denoisers.hybrid.torch_backend import EagerDecoder, EagerDrafter
from mezzotint.denoisers.load import load_decoder
from mezzotint.denoisers.native.decoder import NativeDecoder
from mezzotint.denoisers.native.drafter import NativeDrafter
from mezzotint.denoisers.native.runtime import ThreadPool
from mezzotint.denoisers.networks.drafter import Drafter

CONFIG: dict[str, Any] = {
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "vocab_size": 104,
    "max_position_embeddings": 320,
    "rope_theta": 5000.0,
    "rms_norm_eps": 1e-5,
    "tie_word_embeddings": True,
}
SHAPE = DrafterShape(
    width=64, hidden=64, heads=2, kv_heads=1, head_dim=32, theta=5000.0, eps=1e-5,
    layers=2, taps=(1, 2, 3), block=3, window=20, mixer=32,
)  # fmt: skip
TAPS = SHAPE.taps


@dataclass(frozen=True)
class Stored:
    """A tensor of a checkpoint in memory."""

    values: NDArray[np.float32]
    stored: QuantisedBlocks | None = None
    file: Path = Path("memory")
    dtype: str = "f32"

    @property
    def shape(self) -> tuple[int, ...]:
        return self.values.shape

    def read(self) -> NDArray[np.float32]:
        return self.values.copy()

    def blocks(self) -> QuantisedBlocks | None:
        return self.stored


def tensors(config: dict[str, Any], seed: int = 0) -> dict[str, NDArray[np.float32]]:
    """Random weights by Hugging Face name, lively enough that every layer matters."""
    rng = np.random.default_rng(seed)
    width, inner, vocab = config["hidden_size"], config["intermediate_size"], config["vocab_size"]
    q, kv = (config[name] * config["head_dim"] for name in ("num_attention_heads", "num_key_value_heads"))
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (vocab, width), "model.norm.weight": (width,)}
    if not config["tie_word_embeddings"]:
        shapes["lm_head.weight"] = (vocab, width)
    for depth in range(config["num_hidden_layers"]):
        layer = f"model.layers.{depth}."
        shapes |= {layer + name + ".weight": (width,) for name in ("input_layernorm", "post_attention_layernorm")}
        shapes |= {layer + f"self_attn.{x}_proj.weight": (n, width) for x, n in (("q", q), ("k", kv), ("v", kv))}
        shapes |= {layer + f"mlp.{x}_proj.weight": (inner, width) for x in ("gate", "up")}
        shapes |= {layer + "self_attn.o_proj.weight": (width, q), layer + "mlp.down_proj.weight": (width, inner)}
    spread = {1: lambda s: rng.normal(1, 0.2, s), 2: lambda s: rng.normal(0, 1.5 / s[1] ** 0.5, s)}
    return {name: spread[len(shape)](shape).astype(np.float32) for name, shape in shapes.items()}


def checkpoint(seed: int = 0, **changes: Any) -> Checkpoint:
    """Float weights; `changes` go into the configuration."""
    config = CONFIG | changes
    made = {name: Stored(values) for name, values in tensors(config, seed).items()}
    return Checkpoint("tiny", Path("memory"), config, TokenizerSpec("{}", "", {}, (2,)), made)


def quantised(kind: str, seed: int = 0, **changes: Any) -> Checkpoint:
    """The same with matrices in blocks, "q4_1" or "q8_0", and the float tensors exactly what the blocks say."""
    made = checkpoint(seed, **changes)
    values = tensors(made.config, seed)
    return replace(made, tensors={n: Stored(v) if v.ndim == 1 else blocked(v, kind) for n, v in values.items()})


def blocked(values: NDArray[np.float32], kind: str) -> Stored:
    parts = values.reshape(len(values), -1, 32)
    low = parts.min(-1) if kind == "q4_1" else np.zeros(parts.shape[:2], np.float32)
    span = parts.max(-1) - low if kind == "q4_1" else np.abs(parts).max(-1)
    scale = (span / (15 if kind == "q4_1" else 127)).astype(np.float16).astype(np.float32)
    low = low.astype(np.float16).astype(np.float32)
    limits = (0, 15) if kind == "q4_1" else (-127, 127)
    codes = np.rint((parts - low[..., None]) / scale[..., None]).clip(*limits).reshape(values.shape)
    if kind == "q4_1":
        made = QuantisedBlocks("q4_1", scale, low, codes.astype(np.uint8))
    else:
        made = QuantisedBlocks("q8_0", scale, None, codes.astype(np.int8))
    return Stored(made.dequantised(), made)


@cache
def pool(threads: int = 1) -> ThreadPool:
    return ThreadPool(threads)


def native(ck: Checkpoint, capacity: int = 200, lanes: int = 1, threads: int = 1) -> NativeDecoder:
    return NativeDecoder(ck, pool(threads), capacity, lanes)


def eager(ck: Checkpoint, capacity: int = 200, lanes: int = 1) -> EagerDecoder:
    return EagerDecoder(load_decoder(ck), capacity, lanes)


BACKENDS: dict[str, Callable[..., CausalNetwork]] = {"native": native, "eager": eager}


def drafter(ck: Checkpoint, shape: DrafterShape = SHAPE, ids: int = 40, seed: int = 0) -> Drafter:
    """A random drafter whose every parameter is away from where it starts."""
    torch.manual_seed(seed)
    embedding = torch.from_numpy(ck.tensor("model.embed_tokens.weight"))
    norm = torch.from_numpy(ck.tensor("model.norm.weight"))
    chosen = torch.randperm(len(embedding), generator=torch.Generator().manual_seed(seed))[:ids].sort().values
    made = Drafter(shape, embedding, norm, chosen)
    with torch.no_grad():
        for parameter in made.parameters():
            if parameter.ndim == 2:
                parameter.copy_(torch.randn_like(parameter) / parameter.shape[1] ** 0.5)
            else:
                parameter.add_(0.2 * torch.randn_like(parameter))
    return made.requires_grad_(True).eval()


def drafting(made: Drafter, network: CausalNetwork) -> DraftNetwork:
    """A drafter on the backend of its network."""
    if isinstance(network, NativeDecoder):
        return NativeDrafter(made.shape, {n: v.detach().numpy() for n, v in made.state_dict().items()}, network)
    return EagerDrafter(made)


class Oracle:
    """A drafter that knows the text: right, always wrong, or right now and then.

    A state holds the index of the token it drafts; `wrong(index)` tells where a lie is told.
    """

    def __init__(self, text: Sequence[int], vocab: int, wrong: Callable[[int], bool], shape: DrafterShape) -> None:
        self.text, self.vocab, self.wrong, self.shape = list(text), vocab, wrong, shape
        self.ids = np.arange(vocab)
        self._length = 0

    def length(self) -> int:
        return self._length

    def truncate(self, length: int) -> None:
        self._length = length

    def read(self, taps: Floats, following: Sequence[int], block: int = 0) -> tuple[Floats, Floats]:
        assert len(taps) == len(following) > 0
        self._length += len(taps)
        return self._states(1)[0], self.look([-1] * block)

    def look(self, known: Sequence[int]) -> Floats:
        return self._states(len(known) + 1)[1:]

    def advance(self, rows: Floats, previous: Sequence[int], state: Floats) -> Floats:
        return rows

    def logits(self, state: Floats) -> Floats:
        out = np.full((len(state), self.vocab), -20, np.float32)
        for row, at in zip(out, state[:, 0].astype(int), strict=True):
            token = self.text[at] if at < len(self.text) else 0
            row[(token + 1) % self.vocab if self.wrong(at) else token] = 0
        return out

    def top(self, state: Floats, k: int) -> tuple[NDArray[np.int64], Floats]:
        logits = self.logits(state)
        order = np.argsort(-logits, axis=1, kind="stable")[:, :k]
        return order, np.take_along_axis(logits, order, 1)

    def follow(
        self, rows: Floats, previous: Sequence[int], state: Floats, k: int
    ) -> tuple[Floats, NDArray[np.int64], Floats]:
        return rows, *self.top(rows, k)

    def chain(self, state: Floats, rows: Floats, decided: Sequence[int], gate: float = 0.0) -> Floats:
        return chain(self, state, rows, decided, gate)

    def branches(self, state: Floats, rows: Floats, growth: TreeLimits) -> tuple[list[int], list[int], list[float]]:
        return branches(self, state, rows, growth)

    def _states(self, n: int) -> Floats:
        states = np.zeros((n, self.shape.width), np.float32)
        states[:, 0] = self._length + 1 + np.arange(n)
        return states


def prompts(count: int, vocab: int = CONFIG["vocab_size"], seed: int = 1) -> list[tuple[int, ...]]:
    """Random prompts of 1, 2, ... up to 17 tokens."""
    rng = np.random.default_rng(seed)
    return [tuple(int(t) for t in rng.integers(3, vocab, 1 + 7 * i % 17)) for i in range(count)]


def fresh(network: CausalNetwork, tokens: Sequence[int]) -> tuple[Floats, Floats]:
    """Logits and taps of all tokens, read anew."""
    network.truncate(0)
    hidden, taps = prefill(network, tokens, TAPS)
    return np.array(network.logits(hidden)), taps
