"""One door: a name, a file, a folder, a run or a hub id -> what it is, by one reading of what lies there."""

import json
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from mezzotint.checkpoints import is_hub_id
from mezzotint.checkpoints.catalogue import CATALOGUE
from mezzotint.checkpoints.llama_variants import LLAMA_SHAPED
from mezzotint.checkpoints.open import hub_folder
from mezzotint.checkpoints.peft import base_of
from mezzotint.errors import CheckpointError
from mezzotint.models.run_folder import model_folder

CAUSAL, DIFFUSION, TRAINED, CLASSIFIER = "causal", "diffusion", "trained", "classifier"
FAMILY_AR = "ar"


@dataclass(frozen=True)
class Reference:
    """What a reference names."""

    kind: str
    """CAUSAL: a causal checkpoint; DIFFUSION: a published or exported diffusion model; TRAINED: a model trained here
    from scratch; CLASSIFIER: one that steers such a model."""
    ref: str
    """As it was given."""
    path: Path | None
    """The folder or file that holds it; None for names of the catalogue."""
    family: str | None = None
    """Of a published model."""

    @property
    def folder(self) -> Path:
        """Where it lies, for kinds that are folders."""
        assert self.path is not None
        return self.path


def resolve(ref: str | Path, *, online: bool = False, family: str | None = None) -> Reference:
    """What a reference is.

    Args:
        ref: a name of `mezzotint models list`, a .gguf file, a folder in a published layout, a run of `mezzotint train`
            or its export, an adapter folder in PEFT's layout, or a hub id that the local hub cache has.
        online: whether a hub id may be fetched.
        family: what the user says a published model is.

    Raises:
        CheckpointError: there is no such thing, or it is damaged or of a kind that is not known.
    """
    name, path = str(ref), Path(ref).expanduser()
    if not name:
        raise CheckpointError("no model was named: give a name of `mezzotint models list`, a file, a folder or a run")
    if isinstance(ref, str) and ref in CATALOGUE:
        return Reference(CAUSAL, name, None)
    if path.is_dir():
        return _folder(name, path, family)
    if path.is_file():
        return Reference(CAUSAL, name, path)
    if isinstance(ref, str) and is_hub_id(ref) and not _looks_local(path):
        return _folder(name, hub_folder(ref, offline=not online), family)
    raise missing(name, path)


def missing(name: str, path: Path) -> CheckpointError:
    """What to say of a reference that names nothing: what stands there under another name, if anything does."""
    here = path.parent
    beside = sorted(entry.name for entry in here.iterdir()) if here.is_dir() and len(path.parts) > 1 else []
    near = get_close_matches(path.name, beside, 3, 0.5) if beside else get_close_matches(name, list(CATALOGUE), 3, 0.5)
    guess = f"did you mean {' or '.join(str(here / one) if beside else one for one in near)}? " if near else ""
    return CheckpointError(
        f"there is no model {name!r}: {guess}give a name of `mezzotint models list`, a .gguf file, a folder with "
        "config.json and safetensors, a run of `mezzotint train`, or the id of a model in the hub's local cache"
    )


def _looks_local(path: Path) -> bool:
    """Whether a reference that reads as owner/name rather is a slip in a path: its first part is a folder here."""
    return path.parent.is_dir()


def _folder(name: str, path: Path, family: str | None) -> Reference:
    """What a folder holds: a run's export before the run itself."""
    if (ours := model_folder(path)) is not None:
        return Reference(TRAINED, name, ours)
    is_run = (path / "run.json").is_file()
    for folder in (path / "export", path):
        config = _config(folder, is_run)
        if config is None:
            continue
        kind = config.get("kind")
        if kind == "judge":
            return Reference(CLASSIFIER, name, folder)
        found = family or family_in(config, folder)
        return Reference(CAUSAL if found == FAMILY_AR else DIFFUSION, name, folder, found)
    if (path / "adapter_config.json").is_file():
        return _adapter(name, path, family)
    raise CheckpointError(
        f"{path} holds no model: there is no config.json, adapter_config.json or run.json in it; give the folder that "
        "has them"
    )


def _adapter(name: str, path: Path, family: str | None) -> Reference:
    """A PEFT folder: what its base is, the adapter on it."""
    base = base_of(path)
    where = path / base if (path / base).is_dir() else Path(base)
    found = resolve(where if where.is_dir() else base, family=family)
    if found.kind not in (CAUSAL, DIFFUSION):
        raise CheckpointError(f"{path} is an adapter for {base}, which is a {found.kind} model: adapters go on others")
    return Reference(found.kind, name, path, found.family)


def _config(folder: Path, is_run: bool) -> dict[str, Any] | None:
    """config.json, None where there is none.

    Raises:
        CheckpointError: it cannot be read.
    """
    record = folder / "config.json"
    if not record.is_file():
        return None
    try:
        found = json.loads(record.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        what = "the model of the run" if is_run else "the model in"
        raise CheckpointError(f"cannot read {what} {folder}: {record.name} is damaged ({error})") from None
    if not isinstance(found, dict):
        raise CheckpointError(f"{record} is damaged: it holds no object with the fields of a configuration")
    return found


def family_in(config: dict[str, Any], folder: Path) -> str:
    """The family of a published model by its configuration, "ar" for causal ones.

    Raises:
        CheckpointError: a `model_type` that is not known here.
    """
    plain = config.get("is_causal") is None or config.get("mask_token_id") is None
    if config.get("model_type") in LLAMA_SHAPED and plain and "architectures" not in config:
        return FAMILY_AR
    from mezzotint.denoisers.published.families import family_of

    return family_of(config, str(folder / "config.json"))
