"""Every example runs, at tiny settings, and says what its docstring promises."""

import ast
import re
import runpy
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"
RAN = ("answer", "watch_the_canvas", "compare_modes")


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
