"""Published diffusion language models: one door from a checkpoint to a network whose row i predicts column i.

Nothing stored beside the weights is ever run, and no network is touched.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mezzotint.checkpoints import Checkpoint, TokenizerSpec
from mezzotint.checkpoints.folder import open_published as open_folder
from mezzotint.checkpoints.open import hub_folder
from mezzotint.checkpoints.peft import is_adapter, open_adapter
from mezzotint.denoisers.layers.kv_cache import KVCache, LayeredCache
from mezzotint.denoisers.native.small_networks import NativeSmallNetwork, swift
from mezzotint.denoisers.networks.diffusion_gemma import DiffusionGemma
from mezzotint.denoisers.networks.gpt2 import GPT2
from mezzotint.denoisers.networks.llama import EVERYTHING, MODULES, Decoder
from mezzotint.denoisers.published.attention_patterns import Pattern, dense
from mezzotint.denoisers.published.families import known
from mezzotint.denoisers.published.fill_weights import TensorForm, built, fill
from mezzotint.denoisers.published.identify import Overrides, read_facts
from mezzotint.errors import CheckpointError
from mezzotint.layouts import Inputs


class AlignedNetwork(nn.Module):
    """A decoder whose logits stand at the columns they predict, whatever its training did.

    Called with tensors it is (tokens, positions, attend, cache) -> logits.  It also has the halves that
    `decode.reader.Reader` reads through: `hidden(inputs, t)`, `head(h)`, `memory(rows, columns)` and `lookback`; those
    are raw, and the reader looks `lookback` columns back for a column's prediction.
    """

    def __init__(self, decoder: Decoder | GPT2, pattern: Pattern, lookback: int) -> None:
        super().__init__()
        self.decoder = decoder
        self.pattern = pattern
        self.lookback = lookback
        """1 where raw row i - 1 predicts column i, else 0."""

    def forward(
        self,
        tokens: Tensor,
        positions: Tensor | None = None,
        attend: Tensor | None = None,
        cache: KVCache | None = None,
    ) -> Tensor:
        """Float[B, N, V]: row i predicts column i.

        With a shift, row i is the raw row i - 1; row 0 repeats raw row 0 and predicts nothing: column 0 must be given,
        or, behind a cache, one column more must be read (as `Reader` does).

        Args:
            tokens: Long[B, N], or Float[B, N, E] embeddings.
            positions: Long[N] or [B, N]; S, S + 1, ... if None, with S columns in the cache.
            attend: Bool[..., N, S + N], broadcast to [B, heads, N, S + N], True where a column reads another; the
                checkpoint's own pattern if None.  Every row needs at least one True.
            cache: from `memory`; its S columns are read and the N new ones are appended (`truncate` takes them back).
        """
        return shifted(self.raw(tokens, positions, attend, cache), self.lookback)

    def raw(
        self,
        tokens: Tensor,
        positions: Tensor | None = None,
        attend: Tensor | None = None,
        cache: KVCache | None = None,
    ) -> Tensor:
        """Float[B, N, V] as the network computes them: with a shift, row i predicts column i + 1."""
        return self.head(self._run(tokens, positions, attend, cache))

    def hidden(self, inputs: Inputs, t: Tensor | None = None) -> Tensor:
        """Float[B, N, D], normalised, ready for `head`; `inputs.attend` says who sees whom, the time is not read."""
        seen = inputs.attend.dense(inputs.x.device)
        memory = inputs.memory
        assert memory is None or isinstance(memory, KVCache)
        return self._run(inputs.x, inputs.positions, EVERYTHING if seen is None else seen, memory)

    def head(self, h: Tensor) -> Tensor:
        """Float[..., V]: logits of Float[..., D]."""
        return self.decoder.head(h)

    def ready(self) -> NativeSmallNetwork | None:
        """Kernels for the weights as they are now, which give raw logits; None where there are none for them."""
        decoder = self.decoder
        return swift(decoder, MODULES, decoder.parts, _embedded(decoder)) if isinstance(decoder, Decoder) else None

    def memory(self, rows: int, columns: int) -> KVCache:
        """Room for the keys and values of `columns` columns of `rows` texts.

        Raises:
            CapacityError: more columns than the network has positions.
        """
        return self.decoder.cache(rows, columns)

    def _run(self, tokens: Tensor, positions: Tensor | None, attend: Tensor | None, cache: KVCache | None) -> Tensor:
        if attend is None:
            attend = dense(self.pattern, tokens.shape[1], 0 if cache is None else cache.length, tokens.device)
        return self.decoder(tokens, positions, attend, cache, head=False).hidden


def _embedded(decoder: Decoder) -> Callable[[Inputs, Tensor | None], Tensor]:
    def embedded(inputs: Inputs, t: Tensor | None) -> Tensor:
        return inputs.x.clone() if inputs.x.is_floating_point() else decoder.embed(inputs.x)

    return embedded


class TrainableNetwork(nn.Module):
    """A network as objectives want it, to be trained: (inputs, t) -> logits at the columns they predict."""

    def __init__(self, network: AlignedNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, inputs: Inputs, t: Tensor | None = None) -> Tensor:
        """Float[B, N, V]; with a shift the first row predicts nothing, and its column must be given."""
        network = self.network
        return shifted(network.head(network.hidden(inputs, t)), network.lookback)


@dataclass(frozen=True)
class PublishedModel:
    """An opened model."""

    name: str
    family: str
    """A key of `families.FAMILIES`."""
    method: str
    """The preset of decode/methods/registry.py that it is decoded with unless asked otherwise."""
    network: AlignedNetwork | DiffusionGemma
    """A `DiffusionGemma` for that family alone: text is read first, and its canvas is denoised behind it."""
    mask_id: int | None
    """The id that noise puts in a column's place; None for causal models and for uniform noise."""
    stop_ids: tuple[int, ...]
    """Ids that end an answer, the checkpoint's own first."""
    pad_id: int | None
    """May be one of `stop_ids`: never tell padding by its id."""
    block: int | None
    """Columns of a block, for models that write block by block; None for a canvas of any length."""
    attention: Pattern
    """Who sees whom; called with the number of columns read before it gives a mask, as `Reader.sees` wants it."""
    vocab: int
    """Rows of the embedding; the logits have as many columns, some of them no token."""
    context: int
    """Most columns the network was made for."""
    tokenizer: TokenizerSpec | None
    """None where the folder has none."""
    generation: Mapping[str, Any] = field(default_factory=dict)
    """What generation_config.json says."""
    edit_ids: tuple[int, int] | None = None
    """Ids that delete a column and that open a mask before it, where config.json names them (LLaDA2.2)."""
    stretch_ids: tuple[int, int] | None = None
    """Ids that stand for two masks and for nothing (DreamOn)."""

    @property
    def shift(self) -> bool:
        """Whether the raw logits of a column stand at the column before it; `network` has undone that."""
        return self.network.lookback == 1

    def cache(self, rows: int, columns: int) -> KVCache | LayeredCache:
        """Room for keys and values, to be given to `network`."""
        return self.network.memory(rows, columns)


def open_published(
    ref: str | Path | Checkpoint,
    form: TensorForm = TensorForm(),  # noqa: B008 - without state
    given: Overrides = Overrides(),  # noqa: B008 - without state
) -> PublishedModel:
    """Open a published model from a folder in the Hugging Face layout.

    Args:
        ref: a folder with config.json and safetensors, or a checkpoint opened from one.
        form: type, device and precision of the weights.
        given: family, mask, stop ids or block length where the user knows better.

    Raises:
        CheckpointError: missing, damaged, contradictory, or of a kind that is not known here; nothing is run instead.
        ConfigError: there is no such family.
    """
    checkpoint = ref if isinstance(ref, Checkpoint) else published_checkpoint(Path(ref))
    facts = read_facts(checkpoint, given)
    network = built(facts.architecture.make)
    fill(network, checkpoint, facts.architecture.keys, form, facts.unread)
    row = known(facts.family)
    pattern = row.sight(facts.block)
    if isinstance(network, Decoder | GPT2):
        if facts.architecture.tied:
            network.head.weight = network.embed.weight
        network = AlignedNetwork(network, pattern, int(row.shift))
    assert isinstance(network, AlignedNetwork | DiffusionGemma)
    return PublishedModel(
        name=checkpoint.name,
        family=facts.family,
        method=facts.method,
        network=network.eval(),
        mask_id=facts.mask_id,
        stop_ids=facts.stop_ids,
        pad_id=facts.pad_id,
        block=facts.block,
        attention=pattern,
        vocab=facts.architecture.vocab,
        context=facts.architecture.context,
        tokenizer=checkpoint.tokenizer if checkpoint.tokenizer.json else None,
        generation=checkpoint.generation,
        edit_ids=_edit_ids(checkpoint, facts.architecture.vocab) if facts.stretch_ids is None else None,
        stretch_ids=facts.stretch_ids,
    )


def published_checkpoint(path: Path) -> Checkpoint:
    """A folder of any architecture, or an adapter in PEFT's layout with its base.

    Raises:
        CheckpointError: missing, damaged, or a base that is not here.
    """
    if is_adapter(path):
        return open_adapter(path, lambda base: published_checkpoint(_base(base)))
    return open_folder(path, path.resolve().name)


def _base(ref: str) -> Path:
    return Path(ref) if Path(ref).is_dir() else hub_folder(ref)


def _edit_ids(checkpoint: Checkpoint, vocab: int) -> tuple[int, int] | None:
    found = [checkpoint.config.get(name) for name in ("delete_token_id", "split_token_id")]
    if found == [None, None]:
        return None
    ids = [one for one in found if isinstance(one, int) and 0 <= one < vocab]
    if len(ids) < len(found):
        raise CheckpointError(
            f"{checkpoint.name} has delete_token_id {found[0]} and split_token_id {found[1]} in its config.json: "
            f"both must be ids below {vocab}"
        )
    return ids[0], ids[1]


def shifted(raw: Tensor, lookback: int) -> Tensor:
    """Float[B, N, V] moved `lookback` rows down; the first rows are repeated to fill the gap."""
    if not lookback:
        return raw
    return torch.cat([raw[:, :1].expand(-1, lookback, -1), raw[:, :-lookback]], 1)
