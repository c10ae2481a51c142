"""GGUF files give the weights, shapes and tokenizer that were put into them, and damage is named."""

import hashlib
import json
import struct
from pathlib import Path

import gguf
import numpy as np
import pytest
from gguf.quants import dequantize, quantize
from tiny_files import CONFIG, CONTROL, weights, write_gguf

from mezzotint.checkpoints import open_checkpoint
from mezzotint.errors import CheckpointError

Q = "model.layers.1.self_attn.q_proj.weight"
GOLDEN = Path(__file__).parents[1] / "golden" / "smollm2"
KINDS = ["F32", "F16", "BF16", "Q8_0", "Q4_1", "Q5_0"]


@pytest.mark.parametrize("kind", KINDS)
def test_every_tensor_comes_back_as_the_stored_numbers(tmp_path, kind):
    stored = gguf.GGMLQuantizationType[kind]
    write_gguf(tmp_path / "x.gguf", stored)
    opened = open_checkpoint(tmp_path / "x.gguf")
    original = weights()

    assert set(opened.names()) == set(original)
    for name, values in original.items():
        expected = values if values.ndim == 1 else dequantize(quantize(values, stored), stored)
        np.testing.assert_array_equal(opened.tensor(name), expected, err_msg=name)
        assert opened.shape(name) == values.shape


@pytest.mark.parametrize(("kind", "lowest", "highest"), [("Q4_1", 0, 15), ("Q8_0", -127, 127)])
def test_blocks_are_the_stored_codes_in_the_order_of_the_rows(tmp_path, kind, lowest, highest):
    write_gguf(tmp_path / "x.gguf", gguf.GGMLQuantizationType[kind])
    opened = open_checkpoint(tmp_path / "x.gguf")
    blocks = opened.blocks(Q)

    assert blocks is not None
    assert blocks.kind == kind.lower()
    assert (blocks.codes.min(), blocks.codes.max()) == (lowest, highest)
    np.testing.assert_array_equal(blocks.dequantised(), opened.tensor(Q))
    np.testing.assert_allclose(blocks.dequantised(), weights()[Q], atol=0.05)


def test_plain_floats_have_no_blocks(tmp_path):
    write_gguf(tmp_path / "x.gguf", gguf.GGMLQuantizationType.F16)
    opened = open_checkpoint(tmp_path / "x.gguf")
    assert opened.blocks(Q) is None
    assert opened.blocks("model.norm.weight") is None


def test_configuration_has_hugging_face_names(q4):
    config = open_checkpoint(q4).config
    shared = CONFIG.keys() & config.keys()
    assert {key: config[key] for key in shared} == {key: CONFIG[key] for key in shared}
    assert config["rope_theta"] == 5000.0
    assert config["head_dim"] == 16


def test_tokenizer_names_control_tokens_and_ends(q4):
    spec = open_checkpoint(q4).tokenizer
    assert spec.special == {text: index for index, text in enumerate(CONTROL)}
    assert spec.eos_ids == (2, 0)
    assert spec.bos == "<|im_start|>"


def test_truncation_is_noticed_wherever_it_happens(q4):
    whole = q4.read_bytes()
    for length in [0, 3, 4, 10, 100, 3000, len(whole) // 2, len(whole) - 1]:
        q4.write_bytes(whole[:length])
        with pytest.raises(CheckpointError, match=str(q4)):
            open_checkpoint(q4)


def test_a_damaged_header_is_one_sentence(q4):
    whole = bytearray(q4.read_bytes())
    for position in range(8, 400, 7):
        broken = bytearray(whole)
        broken[position : position + 8] = struct.pack("<Q", 2**63 + position)
        q4.write_bytes(broken)
        with pytest.raises(CheckpointError) as caught:
            open_checkpoint(q4)
        assert "\n" not in str(caught.value)


def test_another_kind_of_file_is_named(tmp_path):
    (tmp_path / "x.gguf").write_text("hello, I am a text file")
    with pytest.raises(CheckpointError, match="is not a GGUF file"):
        open_checkpoint(tmp_path / "x.gguf")


def test_another_architecture_is_named(tmp_path):
    write_gguf(tmp_path / "x.gguf", gguf.GGMLQuantizationType.F16, architecture="whisper")
    with pytest.raises(CheckpointError, match="architecture 'whisper'"):
        open_checkpoint(tmp_path / "x.gguf")


def test_another_pre_tokenizer_is_named(tmp_path):
    write_gguf(tmp_path / "x.gguf", gguf.GGMLQuantizationType.F16, pre="tekken")
    with pytest.raises(CheckpointError, match="pre-tokenizer 'tekken'"):
        open_checkpoint(tmp_path / "x.gguf")


def test_a_tensor_that_is_not_there_is_named(q4):
    with pytest.raises(CheckpointError, match=r"has no tensor lm_head\.weight"):
        open_checkpoint(q4).tensor("lm_head.weight")


@pytest.mark.model
def test_default_model_reads_as_the_gguf_package_reads_it():
    opened = open_checkpoint("smollm2-135m-instruct")
    golden = json.loads((GOLDEN / "weights.json").read_text())
    assert opened.parameters() == 134_515_008
    assert {name: hashlib.sha256(opened.tensor(name).tobytes()).hexdigest() for name in golden} == golden
