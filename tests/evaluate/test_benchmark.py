"""The whole benchmark on small engines and a small model: what comes out is a complete record that prints and draws."""

import json
import sys
from pathlib import Path

import pytest
from rich.console import Console

from mezzotint.config import from_dict
from mezzotint.errors import ConfigError
from mezzotint.evaluate.bench import record
from mezzotint.evaluate.bench.benchmark import run
from mezzotint.evaluate.bench.machine import machine, physical_cores, slug
from mezzotint.evaluate.bench.plot import draw
from mezzotint.evaluate.bench.report import tables
from mezzotint.evaluate.bench.setup import Bench, check

COMMAND = [sys.executable, str(Path(__file__).with_name("counting_worker.py"))]


@pytest.fixture(scope="module")
def made(tmp_path_factory, small_model):
    """A record over two engines that work, one that dies in the first round and one that is not installed."""
    path = tmp_path_factory.mktemp("bench") / "record.json"
    engines = ["ar", "verify", "llama.cpp", "transformers-fp32"]
    settings = {
        "model": str(small_model),
        "engines": engines,
        "prompts": 4,
        "new_tokens": 8,
        "rounds": 2,
        "questions": 6,
    }
    saved = []

    def save(found):
        record.write(path, found)
        saved.append(found["complete"])

    run(from_dict(Bench, settings), COMMAND, lambda what, done, total: None, save)
    assert saved == [False, False, True]  # after the first round, before judging, at the end
    return record.read(path)


def test_the_record_says_on_what_and_how_it_was_made(made):
    assert made["complete"] is True
    assert made["settings"]["new_tokens"] == 8
    assert made["machine"]["cpu"]
    assert made["versions"]["torch"]
    assert made["date"].endswith("+00:00")
    assert set(made) == {
        *("format", "complete", "date", "command", "source", "versions", "machine", "settings"),
        *("missing", "engines", "ratios", "fidelity"),
    }


def test_every_engine_has_all_its_raw_numbers(made):
    assert list(made["engines"]) == ["ar", "verify"]
    for engine in made["engines"].values():
        assert set(engine) == {"load", "speed", "answers", "replies", "quality"}
        assert len(engine["answers"]) == 4
        assert all(len(answer["token_ids"]) == answer["tokens"] == 8 for answer in engine["answers"])
        assert [reply["right"] for reply in engine["replies"]] == [False] * 6
        assert engine["load"]["peak_bytes"] > 0
        assert engine["quality"]["log_likelihood"]["mean"] < 0


def test_engines_that_are_not_there_are_named_with_the_reason(made):
    assert made["missing"]["transformers-fp32"] == "transformers-fp32 is not installed: pip install it"
    assert made["missing"]["llama.cpp"].startswith("llama.cpp ended with exit code 3")


def test_ratios_and_agreement_compare_with_ar(made):
    assert made["ratios"]["verify / ar"]["median"] == pytest.approx(2.0)
    assert made["engines"]["ar"]["quality"]["agreement"]["identical"]["mean"] == 1.0
    assert made["engines"]["verify"]["quality"]["agreement"]["identical"]["mean"] == 0.0


def test_numbers_of_an_answer_stay_on_one_line(made, tmp_path):
    record.write(tmp_path / "r.json", made)
    lines = (tmp_path / "r.json").read_text().splitlines()
    ids = made["engines"]["ar"]["answers"][0]["token_ids"]
    assert sum(json.dumps(ids) in line for line in lines) >= 1


def test_tables_fit_eighty_columns_and_name_what_is_missing(made):
    console = Console(width=80, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(tables(made))
    text = console.export_text()
    assert "…" not in text
    assert "verify writes 2.00 x the tokens/s of ar" in " ".join(text.split())
    assert "transformers-fp32 was not measured" in text


@pytest.mark.parametrize("ending", ["svg", "png"])
def test_the_picture_is_written(made, tmp_path, ending):
    pytest.importorskip("matplotlib")
    path = tmp_path / "pictures" / f"speed.{ending}"
    draw(made, path)
    assert path.read_bytes()[:5] in (b"<?xml", b"\x89PNG\r")


def test_a_picture_of_another_kind_is_refused(made, tmp_path):
    with pytest.raises(ConfigError, match=r"cannot draw speed.gif: name a file that ends in .svg or .png"):
        draw(made, tmp_path / "speed.gif")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"engines": ["ar", "vllm"]}, "there is no engine 'vllm': choose from ar, diffusion"),
        ({"engines": []}, "no engine was named"),
        ({"engines": ["ar", "ar"]}, "an engine is named twice"),
        ({"prompts": 1000}, "cannot take 1000 prompts: there are 71"),
        ({"questions": 1000}, "cannot take 1000 questions: there are 295"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        check(from_dict(Bench, settings))


def test_lengths_must_be_positive():
    for field in ("prompts", "new_tokens", "rounds", "threads"):
        with pytest.raises(ConfigError, match=field):
            from_dict(Bench, {field: 0})


def test_a_record_that_cannot_be_written_or_read_is_a_sentence(made, tmp_path):
    (tmp_path / "file").write_text("{}")
    with pytest.raises(ConfigError, match="cannot write"):
        record.write(tmp_path / "file" / "r.json", made)
    with pytest.raises(ConfigError, match="is no benchmark record"):
        record.read(tmp_path / "file")


def test_a_place_that_cannot_be_written_is_refused_before_measuring(tmp_path):
    (tmp_path / "file").write_text("")
    record.reserve(tmp_path / "new" / "r.json")
    assert (tmp_path / "new").is_dir()
    for path in (tmp_path / "file" / "r.json", tmp_path / "new"):
        with pytest.raises(ConfigError, match="choose another file"):
            record.reserve(path)


def test_the_machine_is_described():
    found = machine()
    assert found["memory_gb"] > 0
    assert 1 <= physical_cores() <= found["logical_cores"]
    assert slug("AMD EPYC 9R14 96-Core Processor") == "amd-epyc-9r14"
    assert slug("Intel(R) Core(TM) i7-1185G7 CPU @ 3.00GHz") == "intel-i7-1185g7"
