"""One door to every checkpoint: a catalogue name, a .gguf file, a folder, or a hub id."""

import re
from dataclasses import replace
from pathlib import Path

from mezzotint.checkpoints import catalogue
from mezzotint.checkpoints.base import Checkpoint
from mezzotint.errors import CheckpointError

HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
FILES = (".gguf", ".safetensors")
HUB_FILES = ["*.json", "*.safetensors", "*.jinja", "merges.txt"]


def open_checkpoint(ref: str | Path, *, offline: bool = True) -> Checkpoint:
    """Open a checkpoint; weights stay on disk until they are read.

    Args:
        ref: a catalogue name ("smollm2-135m-instruct"), a .gguf file, a folder with config.json and safetensors, or
            a hub id ("HuggingFaceTB/SmolLM2-135M-Instruct").
        offline: whether a hub id may only come from the hub's local cache.

    Raises:
        CheckpointError: unknown, missing, damaged or unsupported.
    """
    path = Path(ref).expanduser()
    if isinstance(ref, str) and ref in catalogue.CATALOGUE:
        return _catalogued(catalogue.find(ref))
    if path.is_dir():
        from mezzotint.checkpoints.folder import open_folder
        from mezzotint.checkpoints.peft import is_adapter, open_adapter

        if is_adapter(path):
            return open_adapter(path, lambda base: open_checkpoint(base, offline=offline))
        return open_folder(path, path.resolve().name)
    if path.is_file():
        from mezzotint.checkpoints.gguf_model import open_gguf

        return _as_sampled(open_gguf(path, path.stem), catalogue.catalogued(path))
    if isinstance(ref, str) and is_hub_id(ref):
        from mezzotint.checkpoints.folder import open_folder

        return open_folder(hub_folder(ref, offline=offline), ref)
    if path.suffix in FILES or "/" in str(ref):
        raise CheckpointError(
            f"there is no file or folder {path}: check the path, or name one of `mezzotint models list`"
        )
    catalogue.find(str(ref))
    raise AssertionError("find() raises for names outside the catalogue")


def is_hub_id(ref: str) -> bool:
    """Whether a reference reads as `owner/name` on the hub, and is nothing on this disk."""
    return (
        bool(HUB_ID.fullmatch(ref)) and not ref.startswith(".") and not ref.endswith(FILES) and not Path(ref).exists()
    )


def _catalogued(entry: catalogue.CatalogueEntry) -> Checkpoint:
    path = catalogue.where(entry.name)
    remedy = f"run `mezzotint models pull {entry.name}`"
    try:
        size = path.stat().st_size
    except OSError:
        raise CheckpointError(f"{entry.name} is not in the cache ({path}): {remedy}") from None
    if size != entry.bytes:
        raise CheckpointError(
            f"{path} has {size} bytes instead of {entry.bytes}, it is truncated or replaced: {remedy}"
        )
    from mezzotint.checkpoints.gguf_model import open_gguf

    return _as_sampled(open_gguf(path, entry.name), entry.name)


def _as_sampled(checkpoint: Checkpoint, name: str | None) -> Checkpoint:
    """With what the authors sample with; GGUF files do not say it."""
    if name is None:
        return checkpoint
    entry = catalogue.find(name)
    return replace(checkpoint, generation={"do_sample": True, "temperature": entry.temperature, "top_p": entry.top_p})


def hub_folder(ref: str, *, offline: bool = True) -> Path:
    """The folder of the hub's local cache that holds a model.

    Raises:
        CheckpointError: it is not there, or could not be fetched.
    """
    try:
        from huggingface_hub import snapshot_download
    except ImportError:
        raise CheckpointError("hub ids need an extra package: pip install huggingface-hub") from None
    try:
        folder = snapshot_download(ref, allow_patterns=HUB_FILES, local_files_only=offline)
    except Exception as error:  # the hub client raises its own, requests', httpx' and the system's errors
        same = next((entry.name for entry in catalogue.CATALOGUE.values() if entry.source == ref), None)
        hint = f"use {same} from the catalogue, " if same else ""
        if offline:
            raise CheckpointError(
                f"{ref} is not in the hub's local cache: {hint}run `mezzotint models pull {ref}` with a network, "
                "or pass a local folder"
            ) from error
        raise CheckpointError(
            f"{ref} could not be fetched ({type(error).__name__}): {hint}check the network and the name, "
            "or pass a local folder"
        ) from error
    return Path(folder)
