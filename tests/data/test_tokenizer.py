"""Text to ids as llama.cpp does it, back without loss, and never half a character."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mezzotint.checkpoints import TokenizerSpec, open_checkpoint
from mezzotint.data.tokenizer import Tokenizer
from mezzotint.errors import CheckpointError, RequestError, VocabularyError

pytestmark = pytest.mark.model
GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "smollm2" / "tokens.json").read_text())
PIECES = [*"ab 19\n\t'<|>_", "é", "東", "😀", "👩‍👩‍👧", "<|im_start|>", "<|im_end|>", "<|endoftext|>"]
TRICKY = st.lists(st.sampled_from(PIECES)).map("".join)
# the model's vocabulary lacks a few bytes: rare control characters and the lead bytes of unassigned planes
SPELLABLE = st.characters(codec="utf-8", max_codepoint=0x3FFFF, exclude_characters="\x04\x06\x13\x14\x16\x1d")
TEXTS = st.one_of(st.text(SPELLABLE), TRICKY)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.from_spec(open_checkpoint("smollm2-135m-instruct").tokenizer)


@pytest.mark.parametrize("case", GOLDEN["tokens"], ids=lambda case: repr(case["text"][:20]))
def test_ids_are_those_of_llama_cpp(tokenizer, case):
    assert tokenizer.encode(case["text"]) == case["ids"]


@settings(max_examples=200, deadline=None)
@given(TEXTS)
def test_text_survives_and_never_becomes_a_control_token(tokenizer, text):
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert not set(ids) & set(tokenizer.special.values())


@settings(max_examples=200, deadline=None)
@given(TEXTS, st.lists(st.integers(1, 3), max_size=30))
def test_a_stream_gives_the_text_in_whole_characters(tokenizer, text, sizes):
    ids, stream, pieces = tokenizer.encode(text), tokenizer.stream(), []
    for size in [*sizes, *[1] * len(ids)]:
        pieces.append(stream.push(ids[:size]))
        ids = ids[size:]
    assert all("\ufffd" not in piece for piece in pieces) or "\ufffd" in text
    assert "".join(pieces) + stream.flush() == text


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(0, 49151), max_size=40))
def test_a_stream_of_any_ids_gives_what_decoding_them_at_once_gives(tokenizer, ids):
    stream = tokenizer.stream()
    assert "".join(stream.push(index) for index in ids) + stream.flush() == tokenizer.decode(ids)


def test_a_character_of_several_tokens_waits_until_it_is_whole(tokenizer):
    ids, stream = tokenizer.encode("\U0001f9ff"), tokenizer.stream()
    assert len(ids) > 1
    assert [stream.push(index) for index in ids] == [""] * (len(ids) - 1) + ["\U0001f9ff"]


def test_an_unfinished_character_comes_out_as_a_replacement_at_the_end(tokenizer):
    first, stream = tokenizer.encode("\U0001f9ff")[0], tokenizer.stream()
    assert stream.push(first) == ""
    assert set(stream.flush()) == {"\ufffd"}
    assert stream.flush() == ""


def test_control_tokens_have_no_text(tokenizer):
    start, end = tokenizer.special["<|im_start|>"], tokenizer.special["<|im_end|>"]
    assert tokenizer.decode([start, *tokenizer.encode("hi"), end]) == "hi"


def test_facts_of_the_default_model(tokenizer):
    assert tokenizer.vocab_size == 49152
    assert tokenizer.token(tokenizer.eos_ids[0]) == "<|im_end|>"
    assert tokenizer.has_chat


def test_an_id_outside_the_vocabulary_is_named(tokenizer):
    with pytest.raises(VocabularyError, match="there is no token 49152"):
        tokenizer.token(49152)


def test_undecodable_bytes_are_refused(tokenizer):
    with pytest.raises(RequestError, match="not valid Unicode"):
        tokenizer.encode(b"caf\xe9".decode("utf-8", "surrogateescape"))


def test_a_damaged_tokenizer_is_named():
    with pytest.raises(CheckpointError, match="tokenizer cannot be read"):
        Tokenizer.from_spec(TokenizerSpec('{"version": "1.0"', "", {}, ()))
