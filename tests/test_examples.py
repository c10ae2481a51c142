"""Every example runs, at tiny settings, and says what its docstring promises."""

import ast
import re
import runpy
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"
RAN = ("answer", "watch_the_canvas", "compare_modes", "train_on_a_text", "published_model", "bound_of_a_text")
TINY = ("network.width=32", "network.layers=1", "network.heads=2", "length=32", "windows=8", "samples=0")


@pytest.fixture
def said(monkeypatch, capsys):
    """Run an example with arguments, as from a shell; what it prints."""

    def run(name, *arguments):
        monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
        runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
        return capsys.readouterr().out

    return run


def test_each_example_is_short_tells_how_to_run_it_and_is_run_here():
    found = sorted(EXAMPLES.glob("*.py"))
    assert [path.stem for path in found] == sorted(RAN)
    for path in found:
        text = path.read_text(encoding="utf-8")
        assert text.count("\n") < 60, path.name
        assert f"python examples/{path.name}" in (ast.get_docstring(ast.parse(text)) or ""), path.name


@pytest.mark.model
def test_it_answers_a_prompt(said):
    assert re.search(r"\w+.*\n\d+ tokens, \d+ per second, [\d.]+ per forward\n$", said("answer", "Say hello.", 8), re.S)


@pytest.mark.model
def test_the_canvas_begins_as_noise_and_ends_as_text(said):
    lines = said("watch_the_canvas", "Name three birds.", 24).splitlines()
    assert any("░" in line for line in lines)
    assert re.fullmatch(r"\d+ tokens in \d+ passes: (length|stop)", lines[-1])
    assert "░" not in lines[-2]


@pytest.mark.model
def test_verify_writes_the_text_of_ar(said):
    lines = said("compare_modes", "Name three birds.", 16).splitlines()
    assert [line.split()[0] for line in lines] == ["ar", "verify", "diffusion"]
    assert lines[1].endswith("the text of ar")


def test_a_text_is_learnt_continued_and_filled(said, tmp_path):
    text = tmp_path / "my.txt"
    text.write_text("the cat sat on the mat and the dog sat on the cat. The end. " * 60)
    out = said("train_on_a_text", text, tmp_path / "run", 20, *TINY)
    assert "20 steps" in out
    assert re.search(r"^continued: .+", out, re.M)
    filled = re.search(r"^filled:    (.*)$", out, re.M)
    assert filled
    assert "_" not in filled[1]
    assert filled[1].endswith(" on the mat")
    bounds = said("bound_of_a_text", "the cat sat", tmp_path / "run").splitlines()
    assert all(" +- " in line for line in bounds)


def test_a_random_folder_is_decoded_by_two_presets(said):
    out = said("published_model")
    passes = {name: int(count) for name, count in re.findall(r"^([\w-]+): (\d+) passes", out, re.M)}
    assert set(passes) == {"dream-ref", "dream-fast"}


@pytest.mark.model
def test_words_in_order_cost_less_than_shuffled(said):
    ordered, shuffled = (float(line.split()[0]) for line in said("bound_of_a_text").splitlines())
    assert ordered < shuffled
