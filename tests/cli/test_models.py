"""`mezzotint models` prints results on stdout, and one red sentence with exit code 2 for bad input."""

import json

import pytest

from mezzotint.cli.main import run


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


def test_where_prints_paths_only(empty_cache, out):
    assert out("where") == f"{empty_cache}\n"
    inside = out("where", "smollm2-135m-instruct")
    assert inside.startswith(str(empty_cache))
    assert inside.endswith(".gguf\n")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["show"], "is not in the cache"),
        (["show", "gpt-17"], "unknown model 'gpt-17'"),
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
