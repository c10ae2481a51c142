"""Models from scratch, corpora and leagues by the command line: what goes wrong is one sentence and exit code 2."""

import json

import pytest
import torch

from mezzotint.cli.main import run
from mezzotint.data.characters import Characters
from mezzotint.denoisers.networks.small_transformer import TransformerConfig
from mezzotint.families import MDLM
from mezzotint.models.trained import TrainedConfig, TrainedModel


@pytest.fixture
def model(tmp_path):
    """A run as it ends, its network untrained."""
    folder = tmp_path / "run"
    (folder / "export").mkdir(parents=True)
    torch.manual_seed(0)
    shape = TrainedConfig(network=TransformerConfig(width=32, layers=1, heads=2), family=MDLM(), length=16)
    TrainedModel.fresh(shape, Characters.of("the cat sat on a mat")).save(folder / "export")
    (folder / "run.json").write_text("{}")
    return folder


def refused(capsys, *arguments):
    """The one line on stderr of a command that ends with 2."""
    assert run(list(map(str, arguments))) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert len(said.err.splitlines()) == 1
    return said.err


def test_a_run_writes_to_stdout_and_counts_on_stderr(model, capsys):
    assert run(["generate", "the _at", "--model", str(model), "--steps", "2"]) == 0
    said = capsys.readouterr()
    assert said.out.startswith("the ")
    assert "tokens/s" in said.err
    assert run(["generate", "the ", "--model", str(model), "--steps", "3", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["tokens"], facts["forwards"]) == (12, 3)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--steps", "0"], "steps 0 is no whole number"),
        (["--steps", "-3"], "steps -3 is no whole number"),
        (["--steps", "100000"], "ask for 1 to 10000"),
        (["--preset", "llada-fast"], "takes no preset: it takes steps"),
        (["--top-k", "5"], "takes no top-k"),
        (["--verifier", "elsewhere"], "takes no verifier"),
        (["--family", "idlm"], "family is for published diffusion models"),
    ],
)
def test_options_that_mean_nothing_are_refused(options, sentence, model, capsys):
    assert sentence in refused(capsys, "generate", "the _", "--model", model, *options)


def test_a_number_of_tokens_is_meant_even_if_it_is_the_usual_one(model, capsys):
    # 256 are more than the 16 of the window
    for count in (3, 256):
        asked = ["--steps", "2", "--max-new-tokens", str(count), "--json"]
        assert run(["generate", "the ", "--model", str(model), *asked]) == 0
        assert json.loads(capsys.readouterr().out)["tokens"] == count


def test_a_run_is_inspected_as_what_it_is(model, capsys):
    assert run(["models", "inspect", str(model), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["family"], facts["most_columns"], facts["vocabulary"]) == ("mdlm", 16, facts["mask_id"] + 1)
    assert run(["models", "inspect", str(model / "export")]) == 0
    assert "most columns\t16" in capsys.readouterr().out
    assert "a run knows its own" in refused(capsys, "models", "inspect", model, "--family", "llada")


def test_runs_without_a_model_say_how_to_get_one(model, tmp_path, capsys):
    (model / "export" / "config.json").write_text("{")
    assert "is damaged" in refused(capsys, "generate", "the", "--model", model, "--steps", 2)
    (model / "export" / "config.json").unlink()
    (model / "export" / "model.safetensors").unlink()
    (model / "export").rmdir()
    assert f"mezzotint train {model} --resume" in refused(capsys, "generate", "the", "--model", model)
    assert "has no model yet" in refused(capsys, "convert", model, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_configuration_of_another_kind_is_a_sentence(tmp_path, capsys):
    (tmp_path / "config.json").write_text("[1]")
    refused(capsys, "generate", "the", "--model", tmp_path)
    refused(capsys, "convert", tmp_path, tmp_path / "out")


def test_a_run_is_not_told_its_family(model, tmp_path, capsys):
    assert "a run knows its own" in refused(capsys, "convert", model, tmp_path / "out", "--family", "llada")


def test_corpora_by_name_take_no_options_and_names_must_fit(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("MEZZOTINT_HOME", str(tmp_path / "home"))
    text = tmp_path / "my.txt"
    text.write_text("the cat sat on the mat. " * 1000)
    assert "--name is for a text of yours" in refused(capsys, "data", "build", "letters", "--name", "x")
    assert "--symbols is for" in refused(capsys, "data", "build", "letters", "--symbols", "subwords")
    assert "cannot be called ''" in refused(capsys, "data", "build", text, "--name", "")
    assert not (tmp_path / "home").exists()


def test_a_damaged_corpus_does_not_hide_the_others(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("MEZZOTINT_HOME", str(tmp_path / "home"))
    text = tmp_path / "my.txt"
    text.write_text("the cat sat on the mat. " * 1000)
    for name in ("one", "two"):
        assert run(["data", "build", str(text), "--name", name]) == 0
    (tmp_path / "home" / "corpora" / "one" / "valid.npy").write_bytes(b"no")
    capsys.readouterr()
    assert run(["data", "list"]) == 0
    said = capsys.readouterr()
    assert "two" in said.out
    assert "build it again" in said.err


@pytest.mark.parametrize("seeds", ["x", "-1", "0,1.5", ""])
def test_seeds_are_whole_numbers(seeds, tmp_path, capsys):
    assert "seeds" in refused(capsys, "league", f"--seeds={seeds}", "--out", tmp_path / "league")
    assert not (tmp_path / "league").exists()


@pytest.mark.parametrize("steps", [0, -1])
def test_leagues_of_no_steps_are_refused_in_a_sentence(steps, tmp_path, capsys):
    said = refused(capsys, "league", "--steps", steps, "--out", tmp_path / "league")
    assert f"a league of {steps} steps teaches nothing: give --steps 1 or more" in said
    assert not (tmp_path / "league").exists()


def test_a_picture_that_cannot_be_is_refused_first(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    said = refused(capsys, "league", "--plot", tmp_path / "file" / "x.svg", "--out", tmp_path / "league")
    # what is missing first, the place or the package that draws, depends on what is installed
    assert "choose another place" in said or "needs matplotlib" in said
