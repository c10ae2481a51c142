"""Folders of recorded published models, opened as they are or copied to be damaged."""

import json
import shutil
from pathlib import Path

from safetensors.torch import load_file, save_file

from mezzotint.denoisers.published.fill_weights import TensorForm
from mezzotint.denoisers.published.identify import Overrides
from mezzotint.denoisers.published.open import open_published

GOLDEN = Path(__file__).parents[1] / "golden"
GIVEN = {
    "llada2_moe": Overrides(mask_id=156),
    "diffullama": Overrides(family="diffullama", mask_id=81),
}


def copied(name, to):
    """A copy that a test may damage."""
    return Path(shutil.copytree(GOLDEN / name, to / name))


def opened(path, form=None):
    return open_published(path, form or TensorForm(), GIVEN.get(path.name, Overrides()))


def rewritten(path, change):
    """Apply `change` to the stored tensors."""
    tensors = load_file(path / "model.safetensors")
    change(tensors)
    save_file(tensors, path / "model.safetensors")


def set_field(path, **fields):
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps(config | fields))
