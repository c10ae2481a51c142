"""Cards tell the truth: every file that one names exists, and what it names in the package is what runs."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

import mezzotint.families
from mezzotint.decode.methods.registry import METHODS
from mezzotint.families import AnyFamily, CausalFamily

ROOT = Path(mezzotint.families.__file__).parents[2]
CARDS = sorted(path for path in (ROOT / "mezzotint/families").glob("*.py") if path.stem not in ("__init__", "base"))
OUTSIDE = {"denoisers/published/open.py", "denoisers/published/add_mask.py", "denoisers/layers/moe.py"}
"""What opens and trains the networks of all cards that start from a causal model: recipes and models import it."""
GUIDED = {
    "udlm": {"decode/guidance/classifier.py", "objectives/class_conditional.py"},
    "diffusion_lm": {"decode/guidance/gradients.py", "decode/guidance/minimum_bayes_risk.py"},
    "diffusion_bert": {"denoisers/networks/bert.py"},
}
"""What commands beside training and writing do with a family: `mezzotint guide`, and starting from an encoder."""


def text_of(card):
    return ast.get_docstring(ast.parse(card.read_text(encoding="utf-8")))


def paths(card):
    """The files that a card names; a bare name is a module of the package itself, or is in the folder named before."""
    found, folder = [], ""
    for name in re.findall(r"[\w/*]+\.py", text_of(card)):
        folder = name.rpartition("/")[0] or folder
        alone = "/" in name or (ROOT / "mezzotint" / name).is_file()
        found.append(name if alone else f"{folder}/{name}")
    return found


@cache
def imported(module):
    """Files of the package that one imports, directly or not, below mezzotint/."""
    seen, waiting = set(), [module]
    while waiting:
        file = waiting.pop()
        if file in seen:
            continue
        seen.add(file)
        for node in ast.walk(ast.parse((ROOT / "mezzotint" / file).read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("mezzotint"):
                for name in (node.module, *(f"{node.module}.{alias.name}" for alias in node.names)):
                    at = "/".join(name.split(".")[1:]) + ".py"
                    if (ROOT / "mezzotint" / at).is_file():
                        waiting.append(at)
    return seen


@pytest.mark.parametrize("card", CARDS, ids=lambda card: card.stem)
def test_every_file_that_a_card_names_exists(card):
    for name in paths(card):
        base = ROOT if name.startswith("tests/") else ROOT / "mezzotint"
        assert list(base.glob(name)), f"{card.name} names {name}, which is not there"


@pytest.mark.parametrize("card", CARDS, ids=lambda card: card.stem)
def test_every_file_of_the_package_that_a_card_names_is_imported_by_it_or_by_its_method(card):
    runs = imported(f"families/{card.name}")
    if 'method="' in card.read_text(encoding="utf-8"):
        runs = runs | imported("decode/methods/registry.py")
    named = {name for name in paths(card) if not name.startswith("tests/")} - OUTSIDE - GUIDED.get(card.stem, set())
    assert named <= runs, f"{card.name} names {sorted(named - runs)}, which it does not run"


def test_the_method_of_every_card_is_a_preset_and_every_card_is_listed():
    methods = {found for card in CARDS for found in re.findall(r'method="([\w-]+)"', card.read_text(encoding="utf-8"))}
    assert methods
    assert methods <= set(METHODS)
    listed = str(AnyFamily) + str(CausalFamily)
    assert [card.stem for card in CARDS if f"families.{card.stem}." not in listed] == []
