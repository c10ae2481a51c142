"""Every way of decoding has its published name, and takes settings that it has."""

import pytest

from mezzotint.config import from_json, to_json
from mezzotint.decode.methods.freedave import FreeDave
from mezzotint.decode.methods.registry import ABOUT, METHODS, method, tuned
from mezzotint.denoisers.published.families import FAMILIES
from mezzotint.errors import ConfigError

PUBLISHED = [
    "llada-ref",
    "llada-fast",
    "llada-factor",
    "llada-leap",
    "llada-klass",
    "d3llm",
    "dparallel",
    "dream-ref",
    "dream-fast",
    "dreamon",
    "d2f",
    "sdar",
    "fdllm2",
    "llada2",
    "llada21-q",
    "llada21-s",
    "llada22",
    "wedlm",
    "rnd1",
    "nemotron",
    "idlm",
    "dgemma",
    "diffcoder",
]


@pytest.mark.parametrize("name", PUBLISHED)
def test_it_exists_under_its_name_and_is_plain_data(name):
    how = method(name)
    assert from_json(type(how), to_json(how)) == how


def test_what_a_family_is_usually_decoded_with_exists():
    assert set(ABOUT) == set(METHODS)
    assert {row.method for row in FAMILIES.values()} <= set(METHODS)


def test_settings_reach_the_preset_inside_another_way():
    made = tuned(method("freedave"), "freedave", temperature=0.5, block=8)
    assert isinstance(made, FreeDave)
    assert (made.how.temperature, made.how.block) == (0.5, 8)
    with pytest.raises(ConfigError, match="the preset idlm has no block"):
        tuned(method("idlm"), "idlm", block=4)


def test_an_unknown_name_gets_its_neighbours_and_the_command_that_lists_all():
    with pytest.raises(ConfigError, match=r"did you mean llada-fast or .*mezzotint models presets` lists all"):
        method("lada-fast")
    with pytest.raises(ConfigError, match=r"'qqq': `mezzotint models presets` lists all"):
        method("qqq")
