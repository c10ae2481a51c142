"""LLaDA-V's bridge from images to text: features become vectors of the text network's width, in place of placeholders
(2505.16933, sec. 3.1).

No command opens a LLaDA-V folder yet: the vision tower that makes the features is missing, and the recorded outputs of
the published code hold this half of the way until it is there.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from mezzotint.checkpoints.folder import open_published
from mezzotint.denoisers.published.config_fields import Fields
from mezzotint.denoisers.published.fill_weights import Piece, TensorForm, built, fill
from mezzotint.errors import RequestError

PLACEHOLDER = -200
"""Stands for an image among token ids; no vocabulary has it."""
IGNORED = -100
"""Label of columns that are not trained on."""


class Projector(nn.Module):
    """Float[n, m, features] -> Float[n, m, width], and the text embedding the results stand among."""

    def __init__(self, features: int, width: int, vocab: int) -> None:
        super().__init__()
        self.inner, self.outer = nn.Linear(features, width), nn.Linear(width, width)
        self.embed = nn.Embedding(vocab, width)

    def forward(self, features: Tensor) -> Tensor:
        """One vector per feature: two layers with the exact GELU (1606.08415) between them."""
        return self.outer(nn.functional.gelu(self.inner(features)))


def open_projector(folder: str | Path, form: TensorForm = TensorForm()) -> Projector:  # noqa: B008 - without state
    """Open the projector and the embedding of a LLaDA-V folder.

    Raises:
        CheckpointError: missing, damaged, or of a kind that is not computed here.
    """
    checkpoint = open_published(Path(folder), Path(folder).resolve().name)
    fields = Fields(checkpoint)
    fields.only(mm_projector_type=("mlp2x_gelu",), mm_patch_merge_type=("flat",))
    stem = {"inner": "mm_projector.0", "outer": "mm_projector.2", "embed": "embed_tokens"}

    def keys(ours: str, shape: tuple[int, ...]) -> list[Piece]:
        place, _, leaf = ours.rpartition(".")
        return [Piece(f"{stem[place]}.{leaf}", shape)]

    vocab = checkpoint.shape(f"{stem['embed']}.weight")[0]
    network = built(lambda: Projector(fields.count("mm_hidden_size"), fields.count("hidden_size"), vocab))
    assert isinstance(network, Projector)
    fill(network, checkpoint, keys, form)
    return network.eval()


@dataclass(frozen=True)
class Merged:
    """Text and images in one row of vectors."""

    embeds: Tensor
    """Float[B, N, E], zero in padding."""
    valid: Tensor
    """Bool[B, N]"""
    labels: Tensor
    """Long[B, N], `IGNORED` at images and in padding."""


def merge(
    tokens: Tensor,
    valid: Tensor,
    images: Tensor,
    embed: Callable[[Tensor], Tensor],
    labels: Tensor | None = None,
    left: bool = False,
) -> Merged:
    """Put all vectors of an image where its placeholder stands; images are taken in the order of rows.

    Args:
        tokens: Long[B, L] with `PLACEHOLDER` for images.
        valid: Bool[B, L], False for padding, which is dropped first.
        images: Float[n, m, E], projected.
        embed: ids -> vectors.
        labels: Long[B, L], what to train on; None is nothing.
        left: pad the shorter rows on the left.

    Raises:
        RequestError: more or fewer placeholders than images.
    """
    wanted = int(((tokens == PLACEHOLDER) & valid).sum())
    if wanted != len(images):
        raise RequestError(f"the text has places for {wanted} images and {len(images)} were given")
    labels = torch.full_like(tokens, IGNORED) if labels is None else labels
    rows, used = [], 0
    for ids, keep, label in zip(tokens, valid, labels, strict=True):
        ids, label = ids[keep], label[keep]
        count = int((ids == PLACEHOLDER).sum())
        rows.append(_row(ids, label, images[used : used + count], embed))
        used += count
    longest = max(len(embeds) for embeds, _ in rows)
    padded, marks, targets = [], [], []
    for embeds, label in rows:
        gap = longest - len(embeds)
        sides = (gap, 0) if left else (0, gap)
        padded.append(nn.functional.pad(embeds, (0, 0, *sides)))
        marks.append(nn.functional.pad(torch.ones_like(label, dtype=torch.bool), sides))
        targets.append(nn.functional.pad(label, sides, value=IGNORED))
    return Merged(torch.stack(padded), torch.stack(marks), torch.stack(targets))


def _row(ids: Tensor, label: Tensor, images: Tensor, embed: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
    """Vectors and labels of one row."""
    places = (ids == PLACEHOLDER).nonzero().flatten().tolist()
    vectors, targets, start = [], [], 0
    for place, image in zip(places, images, strict=True):
        vectors += [embed(ids[start:place]), image]
        targets += [label[start:place], label.new_full((len(image),), IGNORED)]
        start = place + 1
    return torch.cat([*vectors, embed(ids[start:])]), torch.cat([*targets, label[start:]])
