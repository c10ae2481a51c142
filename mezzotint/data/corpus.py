"""Text to train and to be judged on: ids in three parts that never change, kept with checksums.

    HOME/corpora/NAME/corpus.json   where the text came from, the vocabulary, and a checksum of every part
    HOME/corpora/NAME/train.npy     valid.npy  test.npy

A document belongs to a part by the hash of its text, so that a corpus built again, or with a source more, holds out
what it held out before.  A single text is cut instead: its end is held out.
"""

import hashlib
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from mezzotint.checkpoints.cache import home, publish, staging
from mezzotint.config import write_json
from mezzotint.data.characters import Characters, read_text
from mezzotint.data.subwords import END, Subwords
from mezzotint.errors import CheckpointError, ConfigError

PARTS = ("train", "valid", "test")
HELD_OUT = 5
"""Percent of the documents in each of the two parts that are held out."""

_NAME = re.compile(r"\w[\w -]{0,62}\w|\w")
"""Words of letters, digits, blanks and dashes, short enough for a folder of any disk."""

FEWEST, MOST = 512, 4096
"""Subwords of a small text and of a large one."""
ENOUGH = 100_000
"""Characters of a text whose subwords are seen often enough to be learnt; a shorter one is read by its characters."""
PER_SUBWORD = 150
"""Characters of text for every subword, between FEWEST and MOST."""

Vocabulary = Characters | Subwords
Tokens = Literal["auto", "characters", "subwords"]
"""What a text of the user's is read by; "auto": subwords from ENOUGH characters on."""


@dataclass(frozen=True)
class Part:
    """A stretch of ids."""

    ids: np.ndarray
    """Int64[N]."""
    characters: int
    """Of the text behind them: what bits per character are counted over."""

    @property
    def ratio(self) -> float:
        """Tokens per character."""
        return len(self.ids) / max(self.characters, 1)


@dataclass(frozen=True)
class Corpus:
    """Three parts and their vocabulary."""

    name: str
    vocabulary: Vocabulary
    train: Part
    valid: Part
    test: Part
    facts: dict[str, Any]
    """Sources, checksums and sizes, for records."""


def find(
    name: str,
    length: int,
    vocabulary: Vocabulary | None = None,
    make: Callable[[str], Vocabulary] = Characters.of,
) -> Corpus:
    """The text in a file, or the corpus of that name that was built before.

    Args:
        name: a path or a name.
        length: every part must hold a window of this many ids.
        vocabulary: what a file is read by; a built corpus has its own.
        make: makes the vocabulary of a file's text where none is given, its characters as a rule.

    Raises:
        ConfigError: neither a file nor a corpus, too little text, or a corpus of another vocabulary.
        CheckpointError: a damaged corpus.
    """
    folder = where(name)
    if folder is not None and (folder / "corpus.json").is_file():
        corpus = load(folder)
        if vocabulary not in (None, corpus.vocabulary):
            raise ConfigError(f"the corpus {name} has a vocabulary of its own, as an encoder has: give a text file")
    elif folder is not None and not Path(name).exists():
        built = ", ".join(names()) or "none yet"
        raise ConfigError(
            f"cannot read the text {name}: there is no such file, and no corpus of that name "
            f"(built: {built}; see mezzotint data build)"
        )
    else:
        # the held-out ends must hold a window each
        corpus = of_text(Path(name), 100 * length // HELD_OUT + 100, vocabulary, make)
    for part in PARTS:
        if len(getattr(corpus, part).ids) < length:
            raise ConfigError(f"the {part} part of {name} has fewer than {length} tokens: use more text")
    return corpus


def of_text(
    path: Path, least: int, vocabulary: Vocabulary | None = None, make: Callable[[str], Vocabulary] = Characters.of
) -> Corpus:
    """A text file, by characters if nothing else is given: the last twentieth to test on, the one before to choose by.

    Raises:
        ConfigError: missing, not UTF-8, or too short.
    """
    text = read_text(path, least)
    vocabulary = vocabulary or make(text)
    parts = {name: Part(vocabulary.encode(piece), len(piece)) for name, piece in zip(PARTS, cut(text), strict=True)}
    facts = {"name": path.name, "sources": [path.name], "sha256": hashlib.sha256(text.encode()).hexdigest()}
    return Corpus(path.stem, vocabulary, **parts, facts=facts)


def fitted(text: str, tokens: Tokens = "auto", vocab: int | None = None) -> Vocabulary:
    """The vocabulary of a text of the user's: its characters, or byte-level BPE of the part that is trained on.

    Args:
        text: all of it; the subwords are learnt from what `cut` leaves to train on.
        tokens: which of the two; "auto" takes subwords for texts of at least `ENOUGH` characters.
        vocab: subwords at most; by the text's size if not given.
    """
    if tokens == "characters" or (tokens == "auto" and len(text) < ENOUGH):
        return Characters.of(text)
    return Subwords.of(cut(text)[0].split(END), vocab or min(max(len(text) // PER_SUBWORD, FEWEST), MOST))


def cut(text: str) -> tuple[str, str, str]:
    """Train, valid and test parts of one text."""
    held = len(text) * HELD_OUT // 100
    return text[: len(text) - 2 * held], text[len(text) - 2 * held : len(text) - held], text[len(text) - held :]


def dealt(documents: Sequence[str]) -> tuple[list[str], list[str], list[str]]:
    """Train, valid and test documents, each where the hash of its text says, and none twice."""
    parts: tuple[list[str], list[str], list[str]] = ([], [], [])
    for document in dict.fromkeys(documents):
        percent = int.from_bytes(hashlib.sha256(document.encode()).digest()[:8], "big") % 100
        parts[2 if percent < HELD_OUT else 1 if percent < 2 * HELD_OUT else 0].append(document)
    return parts


def save(name: str, vocabulary: Vocabulary, texts: Sequence[str], facts: dict[str, Any]) -> Path:
    """Write the texts of the three parts as a corpus and return its folder.

    Raises:
        CheckpointError: the cache cannot be written.
        CapacityError: the disk is full.
    """
    folder = home() / "corpora" / name
    record: dict[str, Any] = {"name": name, **facts, "vocabulary": vocabulary.to_dict(), "parts": {}}
    with staging(home(), 10 * sum(map(len, texts))) as scratch:
        for part, text in zip(PARTS, texts, strict=True):
            ids = vocabulary.encode(text).astype(np.uint16 if vocabulary.vocab <= 1 << 16 else np.int32)
            np.save(scratch / f"{part}.npy", ids)
            record["parts"][part] = {"tokens": len(ids), "characters": len(text), "sha256": _digest(ids)}
        # the record last: a corpus without one does not count
        (folder / "corpus.json").unlink(missing_ok=True)
        for part in PARTS:
            publish(scratch / f"{part}.npy", folder / f"{part}.npy")
        write_json(folder / "corpus.json", record)
    return folder


def load(folder: Path) -> Corpus:
    """The corpus in a folder.

    Raises:
        CheckpointError: a file is missing or not what its checksum says.
    """
    try:
        record = json.loads((folder / "corpus.json").read_text(encoding="utf-8"))
        arrays = {part: np.load(folder / f"{part}.npy", allow_pickle=False) for part in PARTS}
        for part, ids in arrays.items():
            if _digest(ids) != record["parts"][part]["sha256"]:
                raise CheckpointError(f"{folder / part}.npy is damaged: build the corpus again")
        parts = {p: Part(ids.astype(np.int64), record["parts"][p]["characters"]) for p, ids in arrays.items()}
        vocabulary = vocabulary_of(record["vocabulary"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"cannot read the corpus {folder} ({error}): build it again") from None
    facts = {key: value for key, value in record.items() if key != "vocabulary"}
    return Corpus(record["name"], vocabulary, **parts, facts=facts)


def vocabulary_of(values: dict[str, Any]) -> Vocabulary:
    """What `to_dict` of a vocabulary wrote.

    Raises:
        KeyError: not such a record.
    """
    if values["kind"] == "subwords":
        return Subwords(values["definition"], values.get("mask", ""))
    return Characters(tuple(values["symbols"]))


def where(name: str) -> Path | None:
    """The folder of a corpus of this name; None if it cannot be a name."""
    return home() / "corpora" / name if _NAME.fullmatch(name) else None


def names() -> list[str]:
    """The corpora that were built."""
    return sorted(path.parent.name for path in (home() / "corpora").glob("*/corpus.json"))


def _digest(ids: np.ndarray) -> str:
    return hashlib.sha256(ids.tobytes()).hexdigest()
