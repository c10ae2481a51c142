"""Text for a vocabulary of somebody else's: documents of a corpus or a file, and their ids in one packed row."""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mezzotint.data import corpus
from mezzotint.data.characters import read_text
from mezzotint.data.subwords import END
from mezzotint.errors import ConfigError

LEAST = 2_000
"""Characters of a text file; its held-out ends are a twentieth each."""


@dataclass(frozen=True)
class Texts:
    """Documents in three parts."""

    train: tuple[str, ...]
    valid: tuple[str, ...]
    test: tuple[str, ...]
    facts: dict[str, Any]
    """Sources and checksums, for records."""


def texts(name: str, most: int) -> Texts:
    """The documents of a built corpus, shuffled by their hash, or a text file as one document per part.

    Args:
        name: a path, or a corpus that `mezzotint data build` made.
        most: characters per part; what is beyond is left out.

    Raises:
        ConfigError: neither a file nor a corpus, or a file that is too short or not UTF-8.
        CheckpointError: a damaged corpus.
    """
    folder = corpus.where(name)
    if folder is not None and (folder / "corpus.json").is_file():
        found = corpus.load(folder)
        parts = [_shuffled(found.vocabulary.decode(getattr(found, part).ids.tolist())) for part in corpus.PARTS]
        return Texts(*(_cut(documents, most) for documents in parts), facts=found.facts)
    path = Path(name)
    if folder is not None and not path.exists():
        raise ConfigError(
            f"cannot read the text {name}: there is no such file, and no corpus of that name "
            f"(built: {', '.join(corpus.names()) or 'none yet'}; see mezzotint data build)"
        )
    text = read_text(path, LEAST)
    facts = {"name": path.name, "sources": [path.name], "sha256": hashlib.sha256(text.encode()).hexdigest()}
    return Texts(*((part[:most],) for part in corpus.cut(text)), facts=facts)


def packed(documents: Iterable[str], encode: Callable[[str], Sequence[int]], end: int) -> np.ndarray:
    """Int64[N]: all documents one after the other, `end` before each and behind the last."""
    ids = [end]
    for document in documents:
        ids += [*encode(document), end]
    return np.array(ids, dtype=np.int64)


def _shuffled(text: str) -> list[str]:
    documents = [document.strip() for document in text.split(END)]
    return sorted(filter(None, documents), key=lambda document: hashlib.sha256(document.encode()).digest())


def _cut(documents: Sequence[str], most: int) -> tuple[str, ...]:
    kept: list[str] = []
    for document in documents:
        if most <= 0:
            break
        kept.append(document[:most])
        most -= len(document)
    return tuple(kept)
