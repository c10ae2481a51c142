"""Names of published tensors: which stored tensors fill which parameter of `Decoder`, per naming scheme."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from mezzotint.denoisers.published.fill_weights import Piece

Shape = tuple[int, ...]
Stacking = Callable[[str, str, Shape], list[Piece]]
"""(the prefix of a layer's experts, `gate_up` or `down`, Shape[E, out, in]) -> the pieces of the stack."""


def apart(prefix: str, part: str, shape: Shape) -> list[Piece]:
    """A tensor per expert and matrix."""
    count, out, width = shape
    if part == "down":
        return [Piece(f"{prefix}{one}.down_proj.weight", (out, width)) for one in range(count)]
    names = ("gate_proj", "up_proj")
    return [Piece(f"{prefix}{one}.{name}.weight", (out // 2, width)) for one in range(count) for name in names]


def merged(prefix: str, part: str, shape: Shape) -> list[Piece]:
    """A stack over the experts per matrix, as dFactory writes for training."""
    count, out, width = shape
    if part == "down":
        return [Piece(f"{prefix}down_proj", shape)]
    names, half = ("gate_proj", "up_proj"), (count, out // 2, width)
    return [Piece(f"{prefix}{name}", half, (one, one + 1)) for one in range(count) for name in names]


def joined(prefix: str, part: str, shape: Shape) -> list[Piece]:
    """Two stacks, rows of the gate first, as transformers 5 writes."""
    return [Piece(f"{prefix}{part}_proj", shape)]


def fused(prefix: str, part: str, shape: Shape) -> list[Piece]:
    """The same two stacks as dInfer names them, beside the experts' place."""
    return [Piece(prefix.removesuffix("experts.") + {"gate_up": "w1", "down": "w2"}[part], shape)]


def stacking(names: Iterable[str]) -> Stacking:
    """How a checkpoint stores its experts, told by its names."""
    endings = {".experts.gate_up_proj": joined, ".experts.gate_proj": merged, ".mlp.w1": fused}
    for name in names:
        for ending, how in endings.items():
            if name.endswith(ending):
                return how
    return apart


@dataclass(frozen=True)
class TensorNames:
    """A naming scheme; called with a parameter of `Decoder` and its shape."""

    whole: Mapping[str, str]
    layer: str
    """Prefix of a layer, with {} for its number."""
    inside: Mapping[str, str]
    """Our module within a layer -> the stored one."""
    stack: Stacking = apart
    rows: Mapping[str, tuple[int, int]] | None = None
    """Rows of q, k and v in a fused matrix, stored under the name of each of them; None where they are apart."""

    def __call__(self, ours: str, shape: Shape) -> list[Piece]:
        """The pieces that fill a parameter."""
        place, _, leaf = ours.rpartition(".")
        if not place.startswith("layers."):
            return [Piece(f"{self.whole[place]}.{leaf}", shape)]
        _, depth, module = place.split(".", 2)
        prefix = self.layer.format(depth)
        if module in ("experts.gate_up", "experts.down"):
            return self.stack(f"{prefix}{self.inside['experts']}.", module.removeprefix("experts."), shape)
        if module == "experts":
            return [Piece(prefix + self.inside["experts.bias"], shape)]
        stored = f"{prefix}{self.inside[module]}.{leaf}"
        if self.rows is not None and module in self.rows:
            total = max(stop for _, stop in self.rows.values())
            return [Piece(stored, (total, *shape[1:]), self.rows[module])]
        return [Piece(stored, shape)]


LLAMA_WHOLE = {"embed": "model.embed_tokens", "norm": "model.norm", "head": "lm_head"}
LLAMA_INSIDE = {
    "ln1": "input_layernorm",
    "ln2": "post_attention_layernorm",
    "q": "self_attn.q_proj",
    "k": "self_attn.k_proj",
    "v": "self_attn.v_proj",
    "o": "self_attn.o_proj",
    "qn": "self_attn.q_norm",
    "kn": "self_attn.k_norm",
    "gate": "mlp.gate_proj",
    "up": "mlp.up_proj",
    "down": "mlp.down_proj",
    "experts": "mlp.experts",
    "experts.router": "mlp.gate",
    "experts.bias": "mlp.expert_bias",
    "experts.shared.gate": "shared_expert.gate_proj",
    "experts.shared.up": "shared_expert.up_proj",
    "experts.shared.down": "shared_expert.down_proj",
}


def llama(names: Iterable[str]) -> TensorNames:
    """Llama, Qwen, Dream, SDAR, WeDLM, RND1 and LLaDA-MoE."""
    return TensorNames(LLAMA_WHOLE, "model.layers.{}.", LLAMA_INSIDE, stacking(names))


def llada(names: Iterable[str]) -> TensorNames:
    """LLaDA and MMaDA; some tools leave out the leading `model.`."""
    stem = "model.transformer." if any(name.startswith("model.transformer.") for name in names) else "transformer."
    inside = {
        "ln1": "attn_norm",
        "ln2": "ff_norm",
        "q": "q_proj",
        "k": "k_proj",
        "v": "v_proj",
        "o": "attn_out",
        "gate": "ff_proj",
        "up": "up_proj",
        "down": "ff_out",
    }
    whole = {"embed": stem + "wte", "norm": stem + "ln_f", "head": stem + "ff_out"}
    return TensorNames(whole, stem + "blocks.{}.", inside)


def llada2(names: Iterable[str], query: int, key: int) -> TensorNames:
    """LLaDA2 (Bailing-MoE-v2's names); rows of the fused matrix are `query` + `key` + `key`."""
    inside = LLAMA_INSIDE | {
        "q": "attention.query_key_value",
        "k": "attention.query_key_value",
        "v": "attention.query_key_value",
        "o": "attention.dense",
        "qn": "attention.query_layernorm",
        "kn": "attention.key_layernorm",
        "experts.bias": "mlp.gate.expert_bias",
        "experts.shared.gate": "mlp.shared_experts.gate_proj",
        "experts.shared.up": "mlp.shared_experts.up_proj",
        "experts.shared.down": "mlp.shared_experts.down_proj",
    }
    rows = {"q": (0, query), "k": (query, query + key), "v": (query + key, query + 2 * key)}
    whole = LLAMA_WHOLE | {"embed": "model.word_embeddings"}
    return TensorNames(whole, "model.layers.{}.", inside, stacking(names), rows)
