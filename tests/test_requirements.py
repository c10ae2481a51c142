"""What is installed is what is declared: pinned lists agree, and the light one is all that the base package needs."""

import re
import tomllib
from importlib.metadata import requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def pins(name):
    lines = (ROOT / name).read_text().splitlines()
    return {canonicalize_name(line.split("==")[0]): line.split("==")[1] for line in lines if "==" in line}


RUN, ALL = pins("requirements-run.txt"), pins("requirements.txt")


def test_what_runs_is_pinned_as_what_is_tested():
    assert RUN.items() <= ALL.items()
    assert "torch" in ALL
    assert not {"torch", "transformers", "matplotlib"} & RUN.keys()


def test_the_light_list_has_what_the_base_package_declares():
    wanted = [Requirement(line) for line in PROJECT["dependencies"]]
    assert all(RUN[canonicalize_name(wish.name)] in wish.specifier for wish in wanted)


@pytest.mark.parametrize("package", RUN)
def test_the_light_list_has_what_its_packages_need(package):
    """They are installed without resolving, so that nothing is forgotten must be known here."""
    for line in requires(package) or []:
        wish = Requirement(line)
        # Windows alone needs colorama
        if wish.marker is None or wish.marker.evaluate({"extra": "", "sys_platform": "linux"}):
            assert canonicalize_name(wish.name) in RUN, f"{package} needs {line}"


def test_every_extra_that_a_message_names_exists():
    from mezzotint.extras import EXTRAS

    extras = PROJECT["optional-dependencies"]
    named = {"llama_cpp": "llama-cpp-python"}
    for package, extra in EXTRAS.items():
        assert any(re.match(rf"{named.get(package, package)}\b", line) for line in extras[extra])
    assert not any("matplotlib" not in line for line in extras["plot"])
