"""A user's text becomes ids and windows, or a sentence that says why not."""

import numpy as np
import pytest

from mezzotint.data.characters import UNKNOWN, Characters, Windows, read_text
from mezzotint.errors import ConfigError, VocabularyError


def test_text_survives_the_vocabulary():
    characters = Characters.of("héllo, 世界\n")
    ids = characters.encode("héllo")
    assert characters.decode(ids.tolist()) == "héllo"
    assert characters.decode([characters.mask_id]) == "_"
    assert characters.vocab == len(set("héllo, 世界\n")) + 1


def test_rare_characters_share_one_id():
    characters = Characters.of("aaabbbccd", most=3)
    assert characters.symbols == ("a", "b", UNKNOWN)
    assert characters.decode(characters.encode("abcd").tolist()) == f"ab{UNKNOWN * 2}"


def test_unknown_characters_are_refused_by_name():
    with pytest.raises(VocabularyError, match="'z' is not in the vocabulary of 2"):
        Characters.of("ab").encode("abz")


def test_windows_are_a_function_of_step_and_seed():
    windows = Windows(np.arange(100), length=10, rows=50)
    first = windows.batch(3, 1)
    assert first.tokens.equal(windows.batch(3, 1).tokens)
    assert not first.tokens.equal(windows.batch(4, 1).tokens)
    assert (first.tokens.diff(dim=1) == 1).all()
    assert Windows(np.arange(10), 10, 5).batch(0, 0).tokens.tolist() == [list(range(10))] * 5


def test_unreadable_texts_are_one_sentence(tmp_path):
    with pytest.raises(ConfigError, match="No such file"):
        read_text(tmp_path / "none.txt", 1)
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9 au lait")
    with pytest.raises(ConfigError, match="not UTF-8 at byte 3"):
        read_text(tmp_path / "latin.txt", 1)
    (tmp_path / "short.txt").write_text("abc")
    with pytest.raises(ConfigError, match="has 3 characters: training on it needs at least 10"):
        read_text(tmp_path / "short.txt", 10)


def test_binary_files_are_no_texts(tmp_path):
    (tmp_path / "x").write_bytes(b"text\0" * 100)
    with pytest.raises(ConfigError, match="zero byte"):
        read_text(tmp_path / "x", 1)
    (tmp_path / "x").write_bytes(b"h\xe4user")
    with pytest.raises(ConfigError, match="at byte 1, convert it with iconv"):
        read_text(tmp_path / "x", 1)


def test_a_byte_order_mark_is_no_letter(tmp_path):
    (tmp_path / "marked.txt").write_bytes(b"\xef\xbb\xbfabc")
    assert read_text(tmp_path / "marked.txt", 1) == "abc"
