"""A vocabulary and its merges, kept in two files, are the tokenizer that transformers makes of them."""

import json

import pytest
from tiny_files import write_folder
from tokenizers import ByteLevelBPETokenizer
from transformers import Qwen2Tokenizer

from mezzotint.checkpoints.folder import open_published
from mezzotint.data.tokenizer import Tokenizer
from mezzotint.errors import CheckpointError

TEXTS = [
    "def add(a, b):\n    return a+b  # it's 1234\n\n\n",
    "Don't  stop   me\tnow!\r\n",
    "e\u0301tude 漢字 🙂 <|mask|> <|endoftext|>",
    "",
]


@pytest.fixture(scope="module")
def trained():
    made = ByteLevelBPETokenizer()
    made.train_from_iterator(
        [*TEXTS, "the cat sat on the mat and don't return"] * 3, vocab_size=400, show_progress=False
    )
    return made


@pytest.fixture
def folder(tmp_path, trained):
    """As Dream's is: added tokens behind the vocabulary, by their ids."""
    write_folder(tmp_path)
    (tmp_path / "tokenizer.json").unlink()
    trained.save_model(str(tmp_path))
    size = trained.get_vocab_size()
    words = ("<|endoftext|>", "<|beginoftext|>", "<|mask|>", "<|expand|>")
    flags = {"lstrip": False, "rstrip": False, "normalized": False, "single_word": False, "special": True}
    settings = {
        "tokenizer_class": "DreamTokenizer",
        "bos_token": "<|beginoftext|>",
        "eos_token": "<|endoftext|>",
        "mask_token": "<|mask|>",
        "added_tokens_decoder": {str(size + i): flags | {"content": word} for i, word in enumerate(words)},
    }
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    return tmp_path, size


def test_ids_are_those_of_transformers(folder):
    path, size = folder
    theirs = Qwen2Tokenizer.from_pretrained(path)
    spec = open_published(path, "tiny").tokenizer
    ours = Tokenizer.from_spec(spec)
    for text in TEXTS:
        assert ours.encode(text) == theirs.encode(text, add_special_tokens=False, split_special_tokens=True)
        assert ours.decode(ours.encode(text)) == theirs.decode(theirs.encode(text, split_special_tokens=True))
    assert spec.special["<|expand|>"] == size + 3
    assert (spec.bos, spec.named["mask"]) == ("<|beginoftext|>", size + 2)
    assert size in spec.eos_ids
    assert ours.decode([size, *ours.encode("the"), size + 3]) == "the"


def test_added_tokens_may_stand_in_a_file_of_their_own_or_in_the_vocabulary(folder):
    path, size = folder
    settings = json.loads((path / "tokenizer_config.json").read_text())
    del settings["added_tokens_decoder"]
    (path / "tokenizer_config.json").write_text(json.dumps(settings | {"pad_token": "the"}))
    (path / "added_tokens.json").write_text(json.dumps({"<|endoftext|>": size, "<|mask|>": size + 1}))
    vocabulary = json.loads((path / "vocab.json").read_text())
    (path / "vocab.json").write_text(json.dumps(vocabulary | {"the": vocabulary.pop("the", size + 2)}))
    spec = open_published(path, "tiny").tokenizer
    assert spec.special["<|mask|>"] == size + 1
    assert "the" in spec.special


def test_another_class_is_no_tokenizer_and_a_damaged_file_is_named(folder):
    path, _ = folder
    (path / "merges.txt").write_text("#version: 0.2\na b c\n")
    with pytest.raises(CheckpointError, match="cannot read the vocabulary in"):
        open_published(path, "tiny")
    (path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "LlamaTokenizer"}))
    assert open_published(path, "tiny").tokenizer.json == ""
