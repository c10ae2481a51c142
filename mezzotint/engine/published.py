"""Published checkpoints under the decoding parts: prompts of ids in, answers out."""

import json
from collections.abc import Sequence

import torch

from mezzotint.decode.generate import Model, Written, generate
from mezzotint.decode.presets import Preset, decoding
from mezzotint.denoisers.published import Aligned, Published
from mezzotint.errors import CapacityError, ConfigError


def model_of(published: Published) -> Model:
    """What decoding must know of an opened model.

    Raises:
        ConfigError: a model without a mask, which is not written by unmasking.
    """
    if published.mask_id is None:
        raise ConfigError(f"{published.name} has no mask token: it cannot be written by filling masks in")
    assert isinstance(published.network, Aligned)
    weight = next(published.network.parameters())
    tokens = None
    if published.tokenizer is not None:
        tokens = max(published.mask_id + 1, _ids(published))
    return Model(
        network=published.network,
        mask_id=published.mask_id,
        vocab=published.vocab,
        stop=published.stop_ids,
        block=published.block,
        pad_id=published.pad_id,
        tokens=tokens,
        device=weight.device,
        pattern=published.attention,
    )


def write(
    published: Published, prompts: Sequence[Sequence[int]], length: int, how: Preset, seeds: Sequence[int] | None = None
) -> Written:
    """Continue every prompt by at most `length` tokens.

    Raises:
        CapacityError: prompt and answer together are longer than the network was made for.
        ConfigError: a preset that does not fit the model.
    """
    longest = max(map(len, prompts), default=0) + length
    if longest > published.context:
        raise CapacityError(f"cannot write to {longest} tokens: {published.name} reads at most {published.context}")
    model = model_of(published)
    with torch.inference_mode():
        return generate(model, prompts, length, decoding(how, model, length), seeds)


def _ids(published: Published) -> int:
    """Ids that the tokenizer knows; rows of the vocabulary behind them are padding."""
    assert published.tokenizer is not None
    document = json.loads(published.tokenizer.json)
    vocab = document.get("model", {}).get("vocab") or {}
    entries = range(len(vocab)) if isinstance(vocab, list) else vocab.values()
    return 1 + max([*entries, *(row["id"] for row in document.get("added_tokens", []))], default=published.vocab - 1)
