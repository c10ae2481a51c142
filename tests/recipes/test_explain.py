"""Every setting of a recipe is printed with its value, what it may be and what it means."""

import json

import pytest

from mezzotint.cli.main import run
from mezzotint.recipes import RECIPES, load
from mezzotint.recipes.explain import explained


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_can_be_explained(name):
    said = explained(load(name)[0])
    assert "\ntrain:\n" in said
    assert "# Steps between checkpoints; the end is always saved.  [a whole number above 0 or null]" in said


def test_settings_stand_below_each_other_as_edits_name_them(capsys):
    assert run(["train", "mdlm-small", "--set", "network.width=128", "--show"]) == 0
    lines = capsys.readouterr().out.splitlines()
    network = lines[lines.index("network:") : lines.index("family:")]
    assert "  width: 128" in network
    assert "  # Features of a column.  [a whole number above 0]" in lines
    assert lines.index("train:") < lines.index("  optim:") < lines.index("    lr: 0.02")
    family = " ".join(line.removeprefix("# ") for line in lines[lines.index("family:") - 3 : lines.index("family:")])
    assert "one of ar, mdlm, bd3lm" in family


def test_with_json_the_plain_values_are_printed(capsys):
    assert run(["train", "mdlm-small", "--show", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["family"]["kind"], found["tokens"]) == ("mdlm", "auto")
