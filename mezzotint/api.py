"""The five-line interface: load a model, ask it, read the answer.

```python
import mezzotint

model = mezzotint.load()
answer = model.generate("Why is the sky blue?")
print(answer.text, answer.tokens_per_second)
```
"""

import os
import time
from pathlib import Path
from typing import Any

from mezzotint.checkpoints import DEFAULT_MODEL, open_checkpoint
from mezzotint.errors import CheckpointError, ConfigError
from mezzotint.extras import require
from mezzotint.models.base import Loaded, Model
from mezzotint.models.resolve import CAUSAL, CLASSIFIER, TRAINED, Reference, resolve

DTYPES = ("float32", "bfloat16", "float16")
DIFFUSION_ONLY = ("dtype", "device", "mask_id", "block_length", "family")
TRAINED_ONLY = "sampler"


def load(
    name: str | Path = DEFAULT_MODEL,
    *,
    backend: str = "auto",
    threads: int | None = None,
    online: bool = False,
    **opening: Any,
) -> Model:
    """Load whatever a reference names.

    Args:
        name: a name of `mezzotint models list`, a GGUF file, a folder in any published layout, a run of `mezzotint
            train` or its export, an adapter folder in PEFT's layout beside its base, or a hub id that the hub's local
            cache has.
        backend: "native" (compiled CPU kernels), "torch" (reference), or "auto": native where it runs.
        threads: CPU threads; all cores by default.
        online: whether a hub id may be fetched.
        opening: for published diffusion models, where the user knows better than the files: `dtype` ("float32",
            "bfloat16", "float16") and `device` of the weights, `family`, `mask_id`, `block_length`.  For runs trained
            from scratch: `sampler`, settings of the family's sampler, such as ["corrections=64"].

    Raises:
        CheckpointError: no such model, or damaged files; what lies there under a similar name is in the message.
        ConfigError: an unknown backend, or an option that does not fit the model.
        CapacityError: the native backend was asked for and cannot run here.
    """
    begun = time.perf_counter()
    if threads is not None and (isinstance(threads, bool) or not isinstance(threads, int) or threads < 1):
        raise ConfigError(f"cannot run on {threads!r} threads: give at least 1, or nothing for all")
    for option in opening:
        if option not in (*DIFFUSION_ONLY, TRAINED_ONLY):
            there = ", ".join((*DIFFUSION_ONLY, TRAINED_ONLY))
            raise ConfigError(f"there is no option {option!r} for opening a model: there are {there}")
    given = {option: value for option, value in opening.items() if value is not None}
    found = resolve(name, online=online, family=given.get("family"))
    model = Model(_opened(found, backend, threads, given))
    model.load_seconds = time.perf_counter() - begun
    return model


def _opened(found: Reference, backend: str, threads: int | None, given: dict[str, Any]) -> Loaded:
    if found.kind == CLASSIFIER:
        raise ConfigError(f"{found.ref} is a classifier of another run's noisy texts: use it in mezzotint guide --want")
    _refuse(found, given)
    if found.kind == CAUSAL:
        from mezzotint.models.hybrid import load_hybrid

        checkpoint = open_checkpoint(found.ref if found.path is None else found.path)
        return load_hybrid(checkpoint, backend, threads or len(os.sched_getaffinity(0)))
    if backend == "native":
        raise ConfigError(f"the native backend runs causal models, and {found.ref} is none: leave the backend out")
    require("torch", f"{found.ref}, a {found.kind} model,")
    import torch

    if threads is not None:
        torch.set_num_threads(threads)
    if found.kind == TRAINED:
        from mezzotint.models.run import LoadedTrained
        from mezzotint.models.trained import TrainedModel

        return LoadedTrained(TrainedModel.load(found.folder, given.get(TRAINED_ONLY, ())), found.folder)
    return _diffusion(found, given)


def _refuse(found: Reference, given: dict[str, Any]) -> None:
    """Raises ConfigError for an option of opening that models of this kind do not have."""
    what = {CAUSAL: "a causal model", TRAINED: "a run trained from scratch"}.get(found.kind, "a published model")
    for option in given:
        whose = "runs trained from scratch" if option == TRAINED_ONLY else "published diffusion models"
        if (found.kind == TRAINED) != (option == TRAINED_ONLY) or found.kind == CAUSAL:
            raise ConfigError(f"{option} is for {whose}, and {found.ref} is {what}: leave it out")


def _diffusion(found: Reference, given: dict[str, Any]) -> Loaded:
    """A published diffusion model, opened as the user says."""
    import torch

    from mezzotint.denoisers.published.fill_weights import TensorForm
    from mezzotint.denoisers.published.identify import Overrides
    from mezzotint.denoisers.published.open import open_published, published_checkpoint
    from mezzotint.models.diffusion import LoadedDiffusion

    dtype = given.get("dtype", "float32")
    if dtype not in DTYPES:
        raise ConfigError(f"there is no dtype {dtype!r}: use {', '.join(DTYPES)}")
    for option in ("mask_id", "block_length"):
        value = given.get(option)
        if value is not None and (
            isinstance(value, bool) or not isinstance(value, int) or value < (option == "block_length")
        ):
            raise ConfigError(f"{option} {value!r} is no whole number: give an id of the vocabulary, or columns")
    checkpoint = published_checkpoint(found.folder)
    form = TensorForm(dtype=getattr(torch, dtype), device=str(given.get("device", "cpu")))
    overrides = Overrides(family=given.get("family"), mask_id=given.get("mask_id"), block=given.get("block_length"))
    try:
        return LoadedDiffusion(checkpoint, open_published(checkpoint, form, overrides))
    except CheckpointError:
        raise
    except RuntimeError as error:  # torch's own sentence for a device that is not there
        raise ConfigError(f"cannot open {found.ref} on {form.device}: {str(error).splitlines()[0]}") from None
