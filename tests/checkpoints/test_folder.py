"""Folders of safetensors give their weights, and what is missing or damaged is named."""

import json

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from safetensors.torch import save_file as save_torch
from tiny_files import weights, write_folder

from mezzotint.checkpoints import open_checkpoint
from mezzotint.errors import CheckpointError

Q = "model.layers.1.self_attn.q_proj.weight"


def test_weights_configuration_and_tokenizer_come_back(folder):
    opened = open_checkpoint(folder)
    for name, values in weights().items():
        np.testing.assert_array_equal(opened.tensor(name), values)
    assert opened.config["head_dim"] == 16
    assert opened.config["rope_theta"] == 5000.0
    assert opened.tokenizer.eos_ids == (2, 0)
    assert opened.tokenizer.chat_template == "{{ bos_token }}x"
    assert opened.tokenizer.special["<|im_start|>"] == 1
    assert opened.blocks(Q) is None


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_every_float_type_widens_exactly(folder, dtype):
    stored = {name: torch.from_numpy(values).to(dtype) for name, values in weights().items()}
    save_torch(stored, folder / "model.safetensors")
    opened = open_checkpoint(folder)
    for name, values in stored.items():
        np.testing.assert_array_equal(opened.tensor(name), values.float().numpy())


def test_shards_are_joined_by_their_index(folder):
    whole = weights()
    names = sorted(whole)
    parts = {"model-00001-of-00002.safetensors": names[:7], "model-00002-of-00002.safetensors": names[7:]}
    (folder / "model.safetensors").unlink()
    for part, inside in parts.items():
        save_file({name: whole[name] for name in inside}, folder / part)
    placed = {name: part for part, inside in parts.items() for name in inside}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": placed}))

    opened = open_checkpoint(folder)
    assert set(opened.names()) == set(whole)
    for name in (names[0], names[-1]):
        np.testing.assert_array_equal(opened.tensor(name), whole[name])

    (folder / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(CheckpointError, match="model-00002-of-00002"):
        open_checkpoint(folder)


def test_a_shard_without_a_promised_tensor_is_named(folder):
    placed = dict.fromkeys([*weights(), "model.layers.9.mlp.up_proj.weight"], "model.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": placed}))
    with pytest.raises(CheckpointError, match=r"lacks model\.layers\.9"):
        open_checkpoint(folder)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors"])
def test_a_missing_file_is_named(folder, name):
    (folder / name).unlink()
    with pytest.raises(CheckpointError, match=name):
        open_checkpoint(folder)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors", "tokenizer_config.json"])
def test_a_truncated_file_is_named(folder, name):
    whole = (folder / name).read_bytes()
    for length in [0, 1, 20, len(whole) // 2, len(whole) - 1]:
        (folder / name).write_bytes(whole[:length])
        with pytest.raises(CheckpointError, match=name):
            open_checkpoint(folder)


def test_a_configuration_of_something_else_is_named(tmp_path):
    folder = write_folder(tmp_path / "x")
    (folder / "config.json").write_text(json.dumps({"model_type": "resnet"}))
    with pytest.raises(CheckpointError, match="lacks num_attention_heads"):
        open_checkpoint(folder)


def test_what_is_nowhere_gets_a_sentence_that_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    cases = {
        "smollm3": "known are smollm2-135m-instruct",
        "./missing.gguf": "there is no file or folder",
        str(tmp_path / "missing"): "there is no file or folder",
        "nobody/nothing": "mezzotint models pull nobody/nothing",
        "HuggingFaceTB/SmolLM2-135M-Instruct": "use smollm2-135m-instruct from the catalogue",
    }
    for ref, sentence in cases.items():
        with pytest.raises(CheckpointError, match=sentence):
            open_checkpoint(ref)


def damaged_header(folder, **changes):
    """The weights, with other values in the first row of their header."""
    whole = (folder / "model.safetensors").read_bytes()
    length = int.from_bytes(whole[:8], "little")
    header = json.loads(whole[8 : 8 + length])
    next(row for key, row in header.items() if key != "__metadata__").update(changes)
    stored = json.dumps(header).encode()
    (folder / "model.safetensors").write_bytes(len(stored).to_bytes(8, "little") + stored + whole[8 + length :])


@pytest.mark.parametrize(
    "changes",
    [{"shape": "x"}, {"shape": [-1, 5]}, {"data_offsets": ["a", "b"]}, {"data_offsets": [1]}, {"data_offsets": [9, 1]}],
    ids=str,
)
def test_a_header_that_holds_something_else_is_named(folder, changes):
    damaged_header(folder, **changes)
    with pytest.raises(CheckpointError, match=r"model\.safetensors has a damaged safetensors header"):
        open_checkpoint(folder)


@pytest.mark.parametrize("placed", [5, None, ["a"]], ids=str)
def test_an_index_that_names_no_files_is_named(folder, placed):
    index = {"weight_map": dict.fromkeys(weights(), placed)}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(CheckpointError, match="has no weight_map that names files"):
        open_checkpoint(folder)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("tokenizer.json", {"added_tokens": "x"}, "damaged tokenizer.json"),
        ("tokenizer.json", {"added_tokens": [1]}, "damaged tokenizer.json"),
        ("tokenizer.json", {"added_tokens": [{}]}, "damaged tokenizer.json"),
        ("tokenizer.json", {"model": None}, "damaged tokenizer.json .it has no model."),
        ("tokenizer_config.json", {"chat_template": [1]}, None),
        ("tokenizer_config.json", {"chat_template": 5, "mask_token": [1]}, None),
    ],
)
def test_a_tokenizer_that_holds_something_else_is_named(folder, name, change, message):
    document = json.loads((folder / name).read_text()) | change
    (folder / name).write_text(json.dumps(document))
    if message is None:
        assert open_checkpoint(folder).tokenizer.chat_template == ""
        return
    with pytest.raises(CheckpointError, match=message):
        open_checkpoint(folder)


def test_json_without_end_is_one_sentence(folder):
    (folder / "config.json").write_text("[" * 100_000)
    with pytest.raises(CheckpointError, match=r"cannot read .*config\.json: maximum recursion depth"):
        open_checkpoint(folder)
