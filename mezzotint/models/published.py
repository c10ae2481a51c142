"""Published checkpoints under the decoding parts: prompts of ids in, answers out."""

import json
from collections.abc import Sequence
from dataclasses import replace

from mezzotint.decode.generation import Generation, Written
from mezzotint.decode.methods.diffusion_gemma import CanvasModel, UniformCanvases
from mezzotint.decode.methods.dreamon import DreamOn, DreamOnRun
from mezzotint.decode.methods.registry import Method, method
from mezzotint.decode.methods.speculative import may_verify
from mezzotint.decode.run import MaskedModel
from mezzotint.denoisers.networks.diffusion_gemma import DiffusionGemma
from mezzotint.denoisers.published.open import AlignedNetwork, PublishedModel
from mezzotint.errors import CapacityError, ConfigError


def model_of(published: PublishedModel) -> MaskedModel:
    """What decoding must know of an opened model.

    Raises:
        ConfigError: a model without a mask, which is not written by unmasking.
    """
    if published.mask_id is None:
        raise ConfigError(f"{published.name} has no mask token: it cannot be written by filling masks in")
    assert isinstance(published.network, AlignedNetwork)
    weight = next(published.network.parameters())
    tokens = None
    if published.tokenizer is not None:
        own = (published.mask_id, *(published.edit_ids or ()), *(published.stretch_ids or ()))
        tokens = max(1 + max(own), _ids(published))
    return MaskedModel(
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
        stretch_ids=published.stretch_ids,
    )


def canvas_model_of(published: PublishedModel) -> CanvasModel:
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


def named(published: PublishedModel, name: str) -> Method | UniformCanvases:
    """The way of decoding of this name, with the numbers that the checkpoint gives for it.

    Raises:
        ConfigError: there is none.
    """
    how = method(name)
    return how.with_numbers_of(published.generation) if isinstance(how, UniformCanvases) else how


def begin(
    published: PublishedModel,
    prompts: Sequence[Sequence[int]],
    length: int,
    how: Method | UniformCanvases,
    seeds: Sequence[int] | None = None,
    verifier: PublishedModel | None = None,
) -> Generation:
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
    _fits(published, longest)
    if isinstance(how, UniformCanvases):
        return how.begin(canvas_model_of(published), prompts, length, seeds)
    model = model_of(published)
    if verifier is not None:
        model = replace(model, verifier=_checked(verifier, published, model, longest))
    return how.begin(model, prompts, length, seeds)


def write(
    published: PublishedModel,
    prompts: Sequence[Sequence[int]],
    length: int,
    how: Method | UniformCanvases,
    seeds: Sequence[int] | None = None,
    verifier: PublishedModel | None = None,
) -> Written:
    """Continue every prompt by at most `length` tokens; arguments and errors are those of `begin`."""
    running = begin(published, prompts, length, how, seeds, verifier)
    for _ in running:
        pass
    return running.result()


def around(published: PublishedModel, pieces: Sequence[Sequence[int]], length: int, how: DreamOn) -> list[int | None]:
    """A text with a blank between every two pieces, as such models were trained: from its begin to its end token.

    Args:
        published: the model.
        pieces: ids of what stands before, between and behind the blanks.
        length: tokens for all blanks together; they begin with fewer masks where that is little.
        how: says how many masks a blank begins with.
    """
    tokenizer = published.tokenizer
    begin = None if tokenizer is None else tokenizer.special.get(tokenizer.bos)
    masks = max(1, min(how.first, length // max(1, len(pieces) - 1)))
    row: list[int | None] = [] if begin is None else [begin]
    for number, piece in enumerate(pieces):
        row += [*[None] * (masks if number else 0), *piece]
    return [*row, *published.stop_ids[:1]]


def fill(
    published: PublishedModel,
    texts: Sequence[Sequence[int | None]],
    length: int,
    how: DreamOn,
    seeds: Sequence[int] | None = None,
) -> DreamOnRun:
    """A generation that fills the blanks of every text, runs of None, with at most `length` tokens; `around` lays out.

    Raises:
        CapacityError: a text and what is written in it are longer than the network was made for.
        ConfigError: a model whose blanks do not grow.
        CanvasError: no text, a length that is not positive, or blanks that begin with more masks.
    """
    _fits(published, max((len(text) - list(text).count(None) for text in texts), default=0) + length)
    return how.begin(model_of(published), texts, length, seeds)


def _checked(verifier: PublishedModel, published: PublishedModel, model: MaskedModel, longest: int) -> AlignedNetwork:
    """The verifier's network."""
    network = verifier.network
    if not isinstance(network, AlignedNetwork) or not may_verify(network, verifier.attention):
        raise ConfigError(f"{verifier.name} cannot check drafts: only a causal model can")
    words = [_words(each) for each in (verifier, published)]
    if model.words > verifier.vocab or (None not in words and words[0] != words[1]):
        raise ConfigError(f"{verifier.name} cannot check drafts of {published.name}: it has another vocabulary")
    _fits(verifier, longest)
    return network


def _fits(published: PublishedModel, longest: int) -> None:
    if longest > published.context:
        raise CapacityError(f"cannot write to {longest} tokens: {published.name} reads at most {published.context}")


def _words(published: PublishedModel) -> object:
    """The ordinary entries of the vocabulary; added ones may differ between a model and the one it came from."""
    if published.tokenizer is None:
        return None
    document = json.loads(published.tokenizer.json)
    added = {row["content"] for row in document.get("added_tokens", [])}
    vocab = document.get("model", {}).get("vocab") or {}
    return vocab if isinstance(vocab, list) else {word: at for word, at in vocab.items() if word not in added}


def _ids(published: PublishedModel) -> int:
    """Ids that the tokenizer knows; rows of the vocabulary behind them are padding."""
    assert published.tokenizer is not None
    document = json.loads(published.tokenizer.json)
    vocab = document.get("model", {}).get("vocab") or {}
    entries = range(len(vocab)) if isinstance(vocab, list) else vocab.values()
    return 1 + max([*entries, *(row["id"] for row in document.get("added_tokens", []))], default=published.vocab - 1)
