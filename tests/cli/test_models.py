"""`mezzotint models` prints results on stdout, and one red sentence with exit code 2 for bad input."""

import json
from pathlib import Path

import pytest

from mezzotint.cli.main import run

GOLDEN = Path(__file__).parents[1] / "golden"


@pytest.fixture
def empty_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MEZZOTINT_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def out(capfd):
    """Runs a command line that succeeds; its stdout."""

    def outcome(*arguments: str) -> str:
        assert run(["models", *arguments]) == 0
        return capfd.readouterr().out

    return outcome


def test_list_prints_json(empty_cache, out):
    (row,) = json.loads(out("list", "--json"))
    assert row["name"] == "smollm2-135m-instruct"
    assert row["pulled"] is False
    assert row["licence"] == "Apache-2.0"
    assert row["path"].startswith(str(empty_cache))


def test_list_prints_a_table_without_colours_into_a_pipe(empty_cache, out):
    lines = out("list").splitlines()
    assert lines[0].split("\t")[:2] == ["name", "here"]
    assert lines[1].split("\t")[:2] == ["smollm2-135m-instruct", "no"]


def test_presets_are_listed_with_the_families_they_are_usual_for(out):
    rows = {row[0]: row[1:] for row in (line.split("\t") for line in out("presets").splitlines())}
    assert rows["llada-ref"][:2] == ["LLaDA", "arXiv 2502.09992"]
    assert rows["llada-ref"][4:] == ["llada, mmada, llada_moe", "block 32, temperature 0.0"]
    assert rows["dreamon"][4] == "dreamon"
    assert rows["wino"][0] == "WINO"
    assert "threshold_back 0.9" in rows["wino"][5]
    assert "choose threshold tau 0.9" in rows["llada-fast"][5]
    assert json.loads(out("presets", "--json"))["dreamon"]["settings"]["first"] == 4


def test_where_prints_paths_only(empty_cache, out):
    assert out("where") == f"{empty_cache}\n"
    inside = out("where", "smollm2-135m-instruct")
    assert inside.startswith(str(empty_cache))
    assert inside.endswith(".gguf\n")


def test_inspect_says_what_a_published_model_is_and_needs(out):
    facts = json.loads(out("inspect", str(GOLDEN / "sdar_moe"), "--json"))
    config = json.loads((GOLDEN / "sdar_moe" / "config.json").read_text())
    assert (facts["family"], facts["block"], facts["shift"]) == ("sdar", config["block_size"], False)
    assert facts["mask_id"] == config["mask_token_id"]
    assert facts["parameters_per_token"] < facts["parameters"]
    sizes = facts["weight_bytes"]
    assert sizes["float32"] == 4 * facts["parameters"] == 2 * sizes["bfloat16"]
    assert sizes["int8"] < sizes["bfloat16"]
    heads = config["num_key_value_heads"] * config["head_dim"] * config["num_hidden_layers"]
    assert facts["canvas"]["cache_bytes_per_column"]["float32"] == 2 * 4 * heads
    assert facts["canvas"]["most_columns"] == config["max_position_embeddings"]


def test_inspect_prints_a_table_and_takes_what_the_files_do_not_say(out):
    lines = out("inspect", str(GOLDEN / "diffullama"), "--family", "diffullama", "--mask-id", "7").splitlines()
    assert "mask_id\t7" in lines
    assert "shift\tTrue" in lines
    assert any(line.startswith("weights in int8\t") for line in lines)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["inspect", str(GOLDEN)], "there is no config.json"),
        (["inspect", str(GOLDEN / "diffullama"), "--family", "diffullama"], "the mask id 811 lies outside"),
        (["show"], "is not in the cache"),
        (["show", "gpt-17"], "there is no model 'gpt-17'"),
        (["where", "gpt-17"], "unknown model 'gpt-17'"),
        (["pull", "gpt-17"], "unknown model 'gpt-17'"),
        (["show", "pyproject.toml"], "is not a GGUF file"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_two(empty_cache, capfd, arguments, sentence):
    assert run(["models", *arguments]) == 2
    printed = capfd.readouterr()
    assert printed.out == ""
    assert sentence in printed.err
    assert len(printed.err.splitlines()) == 1


@pytest.mark.model
def test_show_prints_the_default_model_as_json(out):
    facts = json.loads(out("show", "--json"))
    assert facts["parameters"] == 134_515_008
    assert facts["tensors"] == {"q8_0": 1, "f32": 61, "q4_1": 210}
    assert facts["config"]["num_hidden_layers"] == 30


@pytest.mark.parametrize("verb", ["list", "pull", "show", "where"])
def test_help_teaches_by_example(out, verb):
    assert "Example" in out(verb, "--help")
