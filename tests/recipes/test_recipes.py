"""Every recipe has a name, a line and a configuration that can be written down and read back."""

import pytest

from mezzotint.config import from_json, save_run, to_json
from mezzotint.errors import ConfigError
from mezzotint.recipes import RECIPES, load


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_survive_run_json(name, tmp_path):
    cfg, found = load(name)
    assert found == name
    assert from_json(type(cfg), to_json(cfg)) == cfg
    save_run(tmp_path / "run.json", cfg, recipe=name)
    assert load(str(tmp_path)) == (cfg, name)
    assert load(str(tmp_path / "run.json"), ["train.seed=7"])[0].train.seed == 7


def test_a_misspelt_recipe_is_guessed():
    with pytest.raises(ConfigError, match="did you mean mdlm-small"):
        load("mdlm-smal")


def test_edits_of_a_recipe_are_checked():
    with pytest.raises(ConfigError, match=r"train\.optim\.muon\.lr: Input should be greater than 0"):
        load("mdlm-small", ["train.optim.lr=0"])
