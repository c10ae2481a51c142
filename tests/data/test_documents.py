"""Documents of corpora and files, and their packing for a vocabulary of somebody else's."""

import pytest

from mezzotint.data import corpus
from mezzotint.data.documents import packed, texts
from mezzotint.data.subwords import END, Subwords
from mezzotint.errors import ConfigError

DOCUMENTS = [f"document number {i} says that {i} times {i} is {i * i}." for i in range(60)]


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("MEZZOTINT_HOME", str(tmp_path / "home"))


def test_a_corpus_gives_its_documents_back_in_an_order_of_its_own():
    parts = corpus.dealt(DOCUMENTS * 2)
    joined = [END.join(part) for part in parts]
    corpus.save("mine", Subwords.of(parts[0], 300), joined, {"sources": ["me"]})
    found = texts("mine", 10**6)
    assert [sorted(part) for part in (found.train, found.valid, found.test)] == [sorted(part) for part in parts]
    assert list(found.train) != parts[0]
    assert found.train == texts("mine", 10**6).train
    assert found.facts["sources"] == ["me"]
    short = texts("mine", 100)
    assert sum(map(len, short.train)) == 100
    assert short.train[0] == found.train[0]


def test_a_file_is_one_document_per_part(tmp_path):
    path = tmp_path / "my.txt"
    path.write_text("".join(DOCUMENTS) * 2)
    found = texts(str(path), 10**6)
    whole = path.read_text()
    assert "".join((*found.train, *found.valid, *found.test)) == whole
    assert len(found.valid[0]) == len(found.test[0]) == len(whole) // 20
    assert texts(str(path), 50).train == (whole[:50],)


def test_documents_stand_between_end_tokens():
    ids = packed(["ab", "c"], lambda text: [ord(letter) for letter in text], 0)
    assert ids.tolist() == [0, 97, 98, 0, 99, 0]


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "no corpus of that name"), (b"short", "needs at least 2000"), (b"\xff", "not UTF-8")],
)
def test_what_cannot_be_read_is_one_sentence(tmp_path, monkeypatch, content, message):
    monkeypatch.chdir(tmp_path)
    if content is not None:
        (tmp_path / "mytext").write_bytes(content)
    with pytest.raises(ConfigError, match=message):
        texts("mytext", 10**6)
