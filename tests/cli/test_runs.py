"""Runs are listed, compared and drawn from their records alone."""

import importlib.util
import json

import pytest

from mezzotint.cli.display.curves import drawn
from mezzotint.cli.main import run
from mezzotint.recipes import load
from mezzotint.train.lock import alone
from mezzotint.train.run_record import open_run


@pytest.fixture
def folder(tmp_path):
    """Two runs: one at its end, one that was interrupted."""
    for name, recipe, edits, end in (
        ("one", "mdlm-small", ["network.width=64"], "finished"),
        ("two", "udlm-small", ["train.steps=40"], None),
    ):
        cfg, _ = load(recipe, ["data=my.txt", *edits])
        open_run(tmp_path / name, cfg, recipe, resume=False)
        lines = [{"kind": "event", "step": 0, "event": "started"}]
        lines += [{"kind": "train", "step": k, "loss": 3 - 0.1 * k, "seconds": 6.0 * k} for k in range(1, 11)]
        if end:
            lines += [
                {"kind": "eval", "step": k, "bits_per_character": bits}
                for k, bits in ((5, 2.5), (8, 2.25), (10, 2.375))
            ]
            lines += [{"kind": "event", "step": 10, "event": end, "seconds": 60.0}]
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (tmp_path / name / "metrics.jsonl").write_text(text + '{"kind": "tr')
    return tmp_path


def asked(capsys, *arguments):
    assert run(["runs", *map(str, arguments)]) == 0
    return capsys.readouterr().out


def test_runs_are_listed_with_state_and_figures(folder, capsys):
    found = {each["recipe"]: each for each in json.loads(asked(capsys, folder, "--json"))["runs"]}
    one, two = found["mdlm-small"], found["udlm-small"]
    assert (one["state"], one["step"], one["figure"], one["best"], one["last"]) == (
        "finished", 10, "bits_per_character", 2.25, 2.375,
    )  # fmt: skip
    assert (two["state"], two["step"], two["steps"], two["figure"]) == ("interrupted", 10, 40, "loss")
    assert (two["family"], two["minutes"]) == ("udlm", 1.0)
    with alone(folder / "two"):
        assert "\tgoing\t10 of 40\t" in asked(capsys, folder)


def test_only_settings_that_differ_are_compared(folder, capsys):
    found = json.loads(asked(capsys, folder / "one", folder / "two", "--compare", "--json"))["differences"]
    assert found["network.width"] == [64, 96]
    assert found["family.kind"] == ["mdlm", "udlm"]
    assert "data" not in found
    assert "network.width\t64\t96" in asked(capsys, folder, "--compare")


def test_curves_are_drawn_in_characters_and_as_pictures(folder, capsys, tmp_path):
    said = asked(capsys, folder, "--curves")
    assert "bits_per_character" in said
    assert "2.500 ⠉" in said or "2.500 ⠑" in said or "2.500 ⠓" in said
    if importlib.util.find_spec("matplotlib") is None:
        assert run(["runs", str(folder), "--plot", str(tmp_path / "x.svg")]) == 2
        assert "mezzotint[plot]" in capsys.readouterr().err
    else:
        asked(capsys, folder, "--plot", tmp_path / "x.svg")
        assert "bits per character" in (tmp_path / "x.svg").read_text()


def test_a_falling_line_begins_at_the_top_left_and_ends_at_the_bottom_right():
    rows = drawn([0, 10], [1.0, 0.0], width=4, height=2)
    assert rows[0].startswith("   1.000 ")
    assert rows[1].startswith("   0.000 ")
    assert rows[0][9] != "⠀"
    assert rows[0][12] == "⠀"
    assert rows[1][9] == "⠀"
    assert rows[1][12] != "⠀"
    assert drawn([1], [1.0]) == []


def test_folders_that_are_not_there_are_a_sentence(tmp_path, capsys):
    assert run(["runs", str(tmp_path / "nowhere")]) == 2
    assert "there is no folder" in capsys.readouterr().err
    assert run(["runs", str(tmp_path), "--plot", "x.pdf"]) == 2
    assert "ends in .svg or .png" in capsys.readouterr().err
