"""`mezzotint convert`: a model of ours, or a published one, in the layout that others load."""

from pathlib import Path
from typing import Annotated, Any

import typer


def convert(
    model: Annotated[Path, typer.Argument(help="A run, an exported model, or a folder of a published model.")],
    out: Annotated[Path, typer.Argument(help="The folder to write; new or empty.")],
    family: Annotated[str, typer.Option(help="What a published model of a generic type was turned into.")] = "",
    mask_id: Annotated[int | None, typer.Option(help="The id of the mask, where the files do not say.")] = None,
) -> None:
    """Write a model as transformers and others read it: config.json, model.safetensors and the tokenizer.

    Causal models load as they are.  Models with full or block-causal attention load with the same weights; their
    config.json carries mask_token_id, block_size, is_causal and shift_logits.
    Networks of runs that no such layout holds, as those that are told the
    time, are written as mezzotint opens them.

    Examples:

      mezzotint convert runs/mdlm-small ./mdlm-small

      mezzotint convert ./LLaDA-8B-Instruct ./llada-as-llama
    """
    from mezzotint.errors import ConfigError
    from mezzotint.extras import require
    from mezzotint.models.resolve import TRAINED, resolve

    require("torch", "mezzotint convert")
    found = resolve(model, family=family or None)
    if found.kind == TRAINED and (family or mask_id is not None):
        raise ConfigError("--family and --mask-id are for published models: a run knows its own, leave them out")
    if found.kind == TRAINED:
        _ours(found.folder, out)
    elif found.path is None or not found.path.is_dir():
        raise ConfigError(f"{model} is a GGUF file of rounded weights: convert the folder it was made from")
    else:
        _published(found.folder, out, family, mask_id)
    typer.echo(str(out))


def _ours(run: Path, out: Path) -> None:
    import torch

    from mezzotint.denoisers.published.export import ExportMarks, begin, decoder_of, write
    from mezzotint.errors import ConfigError
    from mezzotint.masks import causal
    from mezzotint.models.trained import TrainedModel

    model = TrainedModel.load(run)
    columns, mask_id = torch.zeros(1, model.shape.length, dtype=torch.long), model.vocabulary.mask_id
    marks = ExportMarks(causal=False, mask_id=mask_id, block=model.family.block)
    if model.family.reading.arrange(columns, columns).attend.mask is causal:
        marks = ExportMarks(causal=True, begin_id=mask_id)
    try:
        decoder = decoder_of(model.network, model.shape.length)
    except ConfigError:
        begin(out)
        model.save(out)
        typer.echo("no published layout holds this network, which is told the time: it opens in mezzotint", err=True)
        return
    write(decoder, out, marks, tokenizer_json(model.vocabulary.to_dict()))


def _published(folder: Path, out: Path, family: str, mask_id: int | None) -> None:
    from mezzotint.denoisers.networks.llama import Decoder
    from mezzotint.denoisers.published.attention_patterns import CausalPattern
    from mezzotint.denoisers.published.export import ExportMarks, write
    from mezzotint.denoisers.published.identify import Overrides
    from mezzotint.denoisers.published.open import AlignedNetwork, open_published
    from mezzotint.errors import ConfigError

    model = open_published(folder, given=Overrides(family=family or None, mask_id=mask_id))
    if not isinstance(model.network, AlignedNetwork) or not isinstance(model.network.decoder, Decoder):
        raise ConfigError(f"cannot convert {folder}: a {model.family} network has no counterpart in those layouts")
    marks = ExportMarks(
        causal=isinstance(model.attention, CausalPattern),
        mask_id=None if model.family == "ar" else model.mask_id,
        block=model.block,
        shift=model.shift,
        stop_ids=model.stop_ids,
        pad_id=model.pad_id,
        # those layouts do not name the token that stands for two masks
        method="" if model.stretch_ids else model.method,
    )
    write(model.network.decoder, out, marks, model.tokenizer.json if model.tokenizer else "")


def tokenizer_json(vocabulary: dict[str, Any]) -> str:
    """The `tokenizers` document of a vocabulary of ours, [MASK] behind its tokens."""
    import json

    if vocabulary["kind"] == "subwords":
        document = json.loads(vocabulary["definition"])
        last = max([*document["model"]["vocab"].values(), *(row["id"] for row in document["added_tokens"])])
    else:
        symbols = vocabulary["symbols"]
        last = len(symbols) - 1
        document = {
            "version": "1.0",
            "truncation": None,
            "padding": None,
            "added_tokens": [],
            "normalizer": None,
            "pre_tokenizer": {
                "type": "Split",
                "pattern": {"Regex": r"[\s\S]"},
                "behavior": "Isolated",
                "invert": False,
            },
            "post_processor": None,
            "decoder": {"type": "Fuse"},
            "model": {
                "type": "WordLevel",
                "vocab": {symbol: index for index, symbol in enumerate(symbols)},
                "unk_token": "\ufffd",
            },
        }
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    document["added_tokens"].append({"id": last + 1, "content": "[MASK]", **flags})
    return json.dumps(document, ensure_ascii=False)
