"""Prompts from a file, samples, and traces that are painted again."""

import json

import pytest

from mezzotint.cli.main import run

OPENED = ("--backend", "torch", "--threads", "1", "--max-new-tokens", "6")


@pytest.fixture
def prompts(tmp_path):
    path = tmp_path / "prompts.jsonl"
    rows = [
        "one",
        {"prompt": "two", "id": 7, "max_new_tokens": 3},
        {"messages": [{"role": "user", "content": "three"}]},
    ]
    path.write_text("\n".join(json.dumps(row) for row in rows) + "\n")
    return path


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_every_line_is_answered_in_order_and_as_it_is_alone(tiny, prompts, tmp_path, capsys):
    out = tmp_path / "out.jsonl"
    assert run(["generate", "--input", str(prompts), "--output", str(out), "--model", str(tiny), *OPENED]) == 0
    found = lines(out)
    assert [row["line"] for row in found] == [1, 2, 3]
    assert (found[1]["id"], found[1]["tokens"]) == (7, 3)
    capsys.readouterr()
    assert run(["generate", "one", "--model", str(tiny), "--json", *OPENED]) == 0
    assert json.loads(capsys.readouterr().out)["text"] == found[0]["text"]


def test_a_file_that_was_cut_goes_on_where_it_ended(tiny, prompts, tmp_path):
    out = tmp_path / "out.jsonl"
    command = ["generate", "--input", str(prompts), "--output", str(out), "--model", str(tiny), *OPENED]
    assert run(command) == 0
    whole = lines(out)
    text = out.read_text().splitlines(keepends=True)
    out.write_text(text[0] + text[1][: len(text[1]) // 2])
    assert run(command) == 0
    assert [row["token_ids"] for row in lines(out)] == [row["token_ids"] for row in whole]


def test_a_bad_line_is_named_and_the_others_are_answered(tiny, prompts, tmp_path, capsys):
    prompts.write_text(prompts.read_text() + "no json\n")
    out = tmp_path / "out.jsonl"
    assert run(["generate", "--input", str(prompts), "--output", str(out), "--model", str(tiny), *OPENED]) == 2
    assert "line 4" in capsys.readouterr().err
    found = lines(out)
    assert len(found) == 4
    assert "error" in found[3]
    assert all("text" in row for row in found[:3])


def test_samples_are_those_of_their_seeds(tiny, capsys):
    hot = ("--temperature", "1.0", "--json")
    assert run(["generate", "hi", "--model", str(tiny), "--samples", "2", "--seed", "4", *hot, *OPENED]) == 0
    several = capsys.readouterr().out
    alone = []
    for seed in ("4", "5"):
        assert run(["generate", "hi", "--model", str(tiny), "--seed", seed, *hot, *OPENED]) == 0
        alone.append(json.loads(capsys.readouterr().out)["text"])
    assert all(
        json.dumps(text)[1:-1] in several or json.dumps(text, ensure_ascii=False)[1:-1] in several for text in alone
    )


def test_a_trace_is_painted_again_without_the_model(tiny, tmp_path, capsys):
    trace = tmp_path / "trace.jsonl"
    assert run(["generate", "hi", "--model", str(tiny), "--trace", str(trace), *OPENED]) == 0
    written = capsys.readouterr().out
    assert run(["replay", str(trace)]) == 0
    assert capsys.readouterr().out == written
    (tmp_path / "other.jsonl").write_text("{}\n")
    assert run(["replay", str(tmp_path / "other.jsonl")]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
