"""BERT's encoder as a denoiser (1810.04805): post-norm, learned positions, GELU, a head tied to the embeddings.

DiffusionBERT starts here (2211.15029).  Its code puts [CLS] before a text and an unseen [SEP] behind it; what nobody
sees and whose answer nobody reads changes nothing, so only the first is here (`begin`).
"""

from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mezzotint.checkpoints.folder import open_published
from mezzotint.denoisers.published.config_fields import Fields
from mezzotint.denoisers.published.fill_weights import Piece, TensorForm, built, fill
from mezzotint.errors import CapacityError, CheckpointError
from mezzotint.layouts import Inputs

HEAD = ("bias", "turn", "after")
"""Modules of the head that published encoders without one lack."""
WHOLE = {
    "embed": "embeddings.word_embeddings",
    "place": "embeddings.position_embeddings",
    "kind": "embeddings.token_type_embeddings",
    "norm": "embeddings.LayerNorm",
    "turn": "cls.predictions.transform.dense",
    "after": "cls.predictions.transform.LayerNorm",
}
INSIDE = {
    "q": "attention.self.query",
    "k": "attention.self.key",
    "v": "attention.self.value",
    "o": "attention.output.dense",
    "ln1": "attention.output.LayerNorm",
    "up": "intermediate.dense",
    "down": "output.dense",
    "ln2": "output.LayerNorm",
}
UNREAD = ("embeddings.position_ids", "pooler.", "cls.seq_relationship.", "cls.predictions.decoder.")
"""Beginnings of stored tensors that the denoiser has no use for, or that are the embeddings again."""


@dataclass(frozen=True, kw_only=True)
class BertConfig:
    """Shape of a BERT."""

    vocab: int
    width: int
    inner: int
    layers: int
    heads: int
    max_positions: int
    kinds: int = 2
    norm_eps: float = 1e-12
    transform: bool = False
    """Whether the head has a layer of its own before the embeddings."""


class Bert(nn.Module):
    """Inputs -> logits Float[B, N, V]; takes no notice of the time.

    `begin` is an id put before every row and not answered; None: nothing is.
    """

    lookback = 0

    def __init__(self, shape: BertConfig, begin: int | None = None) -> None:
        super().__init__()
        self.shape, self.begin = shape, begin
        self.embed = nn.Embedding(shape.vocab, shape.width)
        self.place = nn.Embedding(shape.max_positions, shape.width)
        self.kind = nn.Embedding(shape.kinds, shape.width)
        self.norm = nn.LayerNorm(shape.width, shape.norm_eps)
        self.layers = nn.ModuleList(_Layer(shape) for _ in range(shape.layers))
        self.turn = nn.Linear(shape.width, shape.width) if shape.transform else None
        self.after = nn.LayerNorm(shape.width, shape.norm_eps) if shape.transform else None
        self.bias = nn.Parameter(torch.zeros(shape.vocab))

    def forward(self, inputs: Inputs, t: Tensor | None = None) -> Tensor:
        return self.head(self.hidden(inputs, t))

    def hidden(self, inputs: Inputs, t: Tensor | None = None) -> Tensor:
        """Float[B, N, width], ready for `head`.

        Raises:
            CapacityError: more columns than the network has positions.
        """
        x, positions, seen = inputs.x, inputs.positions, inputs.attend.dense(inputs.x.device)
        if self.begin is not None:
            x, positions = F.pad(x, (1, 0), value=self.begin), F.pad(positions + 1, (1, 0))
            seen = None if seen is None else F.pad(seen, (1, 0, 1, 0), value=True)
        if x.shape[1] > self.shape.max_positions:
            raise CapacityError(
                f"cannot read {x.shape[1]} columns: this encoder has positions for {self.shape.max_positions}"
            )
        h = self.norm(self.embed(x) + self.place(positions) + self.kind.weight[0])
        for layer in self.layers:
            h = layer(h, seen)
        return h if self.begin is None else h[:, 1:]

    def head(self, h: Tensor) -> Tensor:
        """Float[..., width] -> logits Float[..., V]."""
        if self.turn is not None and self.after is not None:
            h = self.after(F.gelu(self.turn(h)))
        return F.linear(h, self.embed.weight, self.bias)


class _Layer(nn.Module):
    def __init__(self, shape: BertConfig) -> None:
        super().__init__()
        width, inner = shape.width, shape.inner
        self.heads = shape.heads
        self.q, self.k, self.v, self.o = (nn.Linear(width, width) for _ in range(4))
        self.up, self.down = nn.Linear(width, inner), nn.Linear(inner, width)
        self.ln1, self.ln2 = nn.LayerNorm(width, shape.norm_eps), nn.LayerNorm(width, shape.norm_eps)

    def forward(self, h: Tensor, seen: Tensor | None) -> Tensor:
        q, k, v = (part(h).unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in (self.q, self.k, self.v))
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=seen).transpose(1, 2).flatten(2)
        h = self.ln1(h + self.o(mixed))
        return self.ln2(h + self.down(F.gelu(self.up(h))))


def load_bert(folder: Path, begin: int | None = None) -> Bert:
    """The encoder of a folder with config.json and model.safetensors, ready to be trained on.

    A folder with a masked-LM head gives all of it; one without (sentence encoders) gets a head that is the embeddings
    and a bias of zero, which needs some training before its logits mean anything.

    Raises:
        CheckpointError: another architecture, or tensors that are missing, left over or of the wrong shape.
    """
    checkpoint = open_published(folder, folder.resolve().name)
    names = checkpoint.names()
    fields = Fields(checkpoint)
    fields.only(model_type=("bert",), hidden_act=("gelu",), position_embedding_type=("absolute",), is_decoder=(False,))
    transform = f"{WHOLE['turn']}.weight" in names
    shape = BertConfig(
        vocab=fields.count("vocab_size"),
        width=fields.count("hidden_size"),
        inner=fields.count("intermediate_size"),
        layers=fields.count("num_hidden_layers"),
        heads=fields.count("num_attention_heads"),
        max_positions=fields.count("max_position_embeddings"),
        kinds=fields.count("type_vocab_size"),
        norm_eps=float(fields.get("layer_norm_eps", 1e-12)),
        transform=transform,
    )
    if shape.width % shape.heads:
        raise CheckpointError(f"{fields.file}: {shape.heads} heads do not divide a width of {shape.width}")
    network = built(lambda: Bert(shape, begin))
    assert isinstance(network, Bert)
    if not transform:
        del network.bias
    stem = "bert." if any(name.startswith("bert.") for name in names) else ""
    unread = [name for name in names if name.removeprefix(stem).startswith(UNREAD)]
    fill(network, checkpoint, _Names(stem), TensorForm(), unread)
    if not transform:
        network.bias = nn.Parameter(torch.zeros(shape.vocab))
    return network.requires_grad_(True)


@dataclass(frozen=True)
class _Names:
    stem: str

    def __call__(self, ours: str, shape: tuple[int, ...]) -> list[Piece]:
        """The piece that fills a parameter."""
        place, _, leaf = ours.rpartition(".")
        if ours == "bias":
            return [Piece("cls.predictions.bias", shape)]
        if place in WHOLE:
            stem = "" if place in HEAD else self.stem
            return [Piece(f"{stem}{WHOLE[place]}.{leaf}", shape)]
        _, depth, module = place.split(".")
        return [Piece(f"{self.stem}encoder.layer.{depth}.{INSIDE[module]}.{leaf}", shape)]
