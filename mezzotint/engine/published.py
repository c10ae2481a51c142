"""Published checkpoints under the decoding parts: prompts of ids in, answers out."""

import json
from collections.abc import Sequence
from dataclasses import replace

from mezzotint.decode.canvases import CanvasModel, Renoising
from mezzotint.decode.generate import Model, Written
from mezzotint.decode.judged import may_judge
from mezzotint.decode.ways import Running, Way, way
from mezzotint.denoisers.gemma import DiffusionGemma
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
        edit_ids=published.edit_ids,
    )


def canvas_model_of(published: Published) -> CanvasModel:
    """The same of a model that writes canvases from uniform noise.

    Raises:
        ConfigError: a model of another kind.
    """
    if not isinstance(published.network, DiffusionGemma):
        raise ConfigError(f"{published.name} does not write canvases from uniform noise: use a preset for masks")
    device = next(published.network.parameters()).device
    pad = 0 if published.pad_id is None else published.pad_id
    size = CanvasModel.canvas if published.block is None else published.block
    return CanvasModel(published.network, published.vocab, published.stop_ids, pad, device, size)


def named(published: Published, name: str) -> Way | Renoising:
    """The way of decoding of this name, with the numbers that the checkpoint gives for it.

    Raises:
        ConfigError: there is none.
    """
    how = way(name)
    return how.told(published.generation) if isinstance(how, Renoising) else how


def begin(
    published: Published,
    prompts: Sequence[Sequence[int]],
    length: int,
    how: Way | Renoising,
    seeds: Sequence[int] | None = None,
    verifier: Published | None = None,
) -> Running:
    """A generation that continues every prompt by at most `length` tokens; iterating it writes.

    Args:
        published: the model.
        prompts: ids of every text.
        length: tokens to write.
        how: a preset; `named` finds it by its name.
        seeds: one for every prompt; their numbers if not given.
        verifier: a causal model of the same vocabulary, for the presets that ask for one.

    Raises:
        CapacityError: prompt and answer together are longer than the network was made for.
        ConfigError: a preset or a verifier that does not fit the model.
    """
    longest = max(map(len, prompts), default=0) + length
    if longest > published.context:
        raise CapacityError(f"cannot write to {longest} tokens: {published.name} reads at most {published.context}")
    if isinstance(how, Renoising):
        return how.begin(canvas_model_of(published), prompts, length, seeds)
    model = model_of(published)
    if verifier is not None:
        model = replace(model, verifier=_checked(verifier, published, model, longest))
    return how.begin(model, prompts, length, seeds)


def write(
    published: Published,
    prompts: Sequence[Sequence[int]],
    length: int,
    how: Way | Renoising,
    seeds: Sequence[int] | None = None,
    verifier: Published | None = None,
) -> Written:
    """Continue every prompt by at most `length` tokens; arguments and errors are those of `begin`."""
    running = begin(published, prompts, length, how, seeds, verifier)
    for _ in running:
        pass
    return running.result()


def _checked(verifier: Published, published: Published, model: Model, longest: int) -> Aligned:
    """The verifier's network."""
    network = verifier.network
    if not isinstance(network, Aligned) or not may_judge(network, verifier.attention):
        raise ConfigError(f"{verifier.name} cannot check drafts: only a causal model can")
    words = [_words(each) for each in (verifier, published)]
    if model.words > verifier.vocab or (None not in words and words[0] != words[1]):
        raise ConfigError(f"{verifier.name} cannot check drafts of {published.name}: it has another vocabulary")
    if longest > verifier.context:
        raise CapacityError(f"cannot write to {longest} tokens: {verifier.name} reads at most {verifier.context}")
    return network


def _words(published: Published) -> object:
    """The ordinary entries of the vocabulary; added ones may differ between a model and the one it came from."""
    if published.tokenizer is None:
        return None
    document = json.loads(published.tokenizer.json)
    added = {row["content"] for row in document.get("added_tokens", [])}
    vocab = document.get("model", {}).get("vocab") or {}
    return vocab if isinstance(vocab, list) else {word: at for word, at in vocab.items() if word not in added}


def _ids(published: Published) -> int:
    """Ids that the tokenizer knows; rows of the vocabulary behind them are padding."""
    assert published.tokenizer is not None
    document = json.loads(published.tokenizer.json)
    vocab = document.get("model", {}).get("vocab") or {}
    entries = range(len(vocab)) if isinstance(vocab, list) else vocab.values()
    return 1 + max([*entries, *(row["id"] for row in document.get("added_tokens", []))], default=published.vocab - 1)
