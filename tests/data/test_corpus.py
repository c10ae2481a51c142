"""Corpora: the same text in the same parts for everyone, checked when read."""

import json

import numpy as np
import pytest

from mezzotint.data import corpus
from mezzotint.data.build import build_own
from mezzotint.data.characters import Characters, Pages
from mezzotint.data.letters import ALPHABET, letters
from mezzotint.data.subwords import END, Subwords
from mezzotint.errors import CheckpointError, ConfigError

TEXT = "the quick brown fox jumps over 2 lazy dogs. " * 700


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("MEZZOTINT_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "my.txt"
    path.write_text(TEXT)
    return path


def test_letters_are_those_of_text8():
    assert letters("It's 20 miles,\nÉtienne!") == "it s two zero miles tienne"
    assert ALPHABET.vocab == 28
    assert ALPHABET.decode(ALPHABET.encode("a b z").tolist()) == "a b z"


def test_documents_go_where_their_own_hash_says():
    documents = [f"document {i}" for i in range(4000)]
    parts = corpus.dealt(documents)
    assert sorted(text for part in parts for text in part) == sorted(documents)
    assert all(abs(len(part) / 4000 - 0.05) < 0.02 for part in parts[1:])
    fewer = corpus.dealt([*documents[:100], *documents[:100]])
    assert all(set(few) <= set(many) for few, many in zip(fewer, parts, strict=True))
    assert sum(map(len, fewer)) == 100


def test_a_text_is_cut_at_its_end():
    assert corpus.cut("x" * 90 + "v" * 5 + "t" * 5) == ("x" * 90, "v" * 5, "t" * 5)


@pytest.mark.parametrize("symbols", ["characters", "letters", "subwords"])
def test_a_text_of_ones_own_becomes_a_corpus(text, symbols):
    said = []
    folder = build_own(text, "mine", symbols, 300, said.append)
    made = corpus.load(folder)
    assert corpus.find("mine", 32).facts == made.facts
    assert corpus.names() == ["mine"]
    back = made.vocabulary.decode(made.train.ids.tolist())
    whole = letters(TEXT) if symbols == "letters" else TEXT
    assert back == corpus.cut(whole)[0]
    assert made.train.characters == len(back)
    assert made.train.ratio == len(made.train.ids) / len(back)
    assert corpus.vocabulary_of(made.vocabulary.to_dict()).vocab == made.vocabulary.vocab


def test_a_file_needs_no_building(text):
    made = corpus.find(str(text), 32)
    assert isinstance(made.vocabulary, Characters)
    assert len(made.train.ids) > 15 * len(made.valid.ids) > 0


def test_damage_is_noticed(text):
    folder = build_own(text, "mine", "characters", 300, print)
    ids = np.load(folder / "valid.npy")
    ids[3] ^= 1
    np.save(folder / "valid.npy", ids)
    with pytest.raises(CheckpointError, match=r"valid\.npy is damaged"):
        corpus.load(folder)
    (folder / "valid.npy").unlink()
    with pytest.raises(CheckpointError, match="build it again"):
        corpus.load(folder)
    (folder / "corpus.json").write_text(json.dumps({"name": "mine"}))
    with pytest.raises(CheckpointError, match="build it again"):
        corpus.load(folder)


def test_what_cannot_be_a_corpus_is_refused(text, tmp_path):
    short = tmp_path / "short.txt"
    short.write_text("too short")
    with pytest.raises(ConfigError, match="at least 20000"):
        build_own(short, "mine", "characters", 300, print)
    with pytest.raises(ConfigError, match="cannot be called"):
        build_own(text, "a/b", "characters", 300, print)
    with pytest.raises(ConfigError, match="cannot be called 'letters'"):
        build_own(text, "letters", "characters", 300, print)
    with pytest.raises(ConfigError, match="no such file, and no corpus"):
        corpus.find("nothing", 32)
    with pytest.raises(ConfigError, match=r"cannot read the text missing\.txt"):
        corpus.find("missing.txt", 32)
    digits = tmp_path / "digits.txt"
    digits.write_text("!? " * 20_000)
    with pytest.raises(ConfigError, match="letters and spaces"):
        build_own(digits, "mine", "letters", 300, print)


def test_subwords_read_any_bytes_and_end_documents():
    made = Subwords.of(["hello world " * 50, "naïve 日本 " * 50], 300)
    text = f"hello naïve 日本{END}world"
    ids = made.encode(text).tolist()
    assert made.decode(ids) == text
    assert made.decode([*ids[:2], made.mask_id, *ids[2:4]]).count("_") == 1
    assert Subwords.of(["hello world " * 50, "naïve 日本 " * 50], 300) == made


def test_pages_do_not_overlap():
    pages = Pages(np.arange(100), 8, 3)
    assert len(pages) == 4
    seen = np.concatenate([pages.batch(i).tokens.numpy().ravel() for i in range(len(pages))])
    assert seen.tolist() == list(range(96))


@pytest.mark.parametrize("name", ["", " ", "-x", "a\nb", "a\0b", "a\\b", "$(x)", "n" * 65])
def test_names_that_no_folder_should_have(name):
    assert corpus.where(name) is None


def test_names_of_words_stay(text):
    assert corpus.where("déjà vu-2") is not None
    assert corpus.where("x") is not None


def test_a_record_of_another_kind_is_damage(text):
    folder = build_own(text, "mine", "characters", 0, print)
    (folder / "corpus.json").write_text("[1]")
    with pytest.raises(CheckpointError, match="build it again"):
        corpus.load(folder)


def test_a_text_with_too_few_tokens_says_so(text):
    said = []
    build_own(text, "mine", "subwords", 50_000, said.append)
    assert any(line.startswith("the text gives no more than") for line in said)


def test_a_text_is_read_by_subwords_where_it_is_long_enough_to_learn_them():
    long = TEXT * 4
    assert len(long) >= corpus.ENOUGH > len(TEXT)
    assert isinstance(corpus.fitted(TEXT), Characters)
    assert isinstance(corpus.fitted(long, "characters"), Characters)
    found = corpus.fitted(long)
    assert isinstance(found, Subwords)
    unseen = "a dog, and what no text held: é"
    assert found.decode(found.encode(unseen).tolist()) == unseen
    few = corpus.fitted(long, "subwords", 280)
    assert few.vocab < found.vocab
    assert len(few.encode(TEXT)) > len(found.encode(TEXT))


def test_subwords_are_learnt_from_the_part_that_is_trained_on(text):
    text.write_text(TEXT * 8 + "zyzzyva " * 2000)
    found = corpus.find(str(text), 16, make=corpus.fitted)
    assert isinstance(found.vocabulary, Subwords)
    assert len(found.vocabulary.encode("zyzzyva ")) > 4
    assert found.train.ratio < found.test.ratio
