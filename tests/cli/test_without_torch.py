"""The base package has no torch: the default model's path runs without it, and every verb that needs it says so."""

import json
import os
import subprocess
import sys

import pytest

from mezzotint.checkpoints import where

REFUSAL = """
import sys


class NoTorch:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "torch":
            raise ModuleNotFoundError("No module named 'torch'", name="torch")


sys.meta_path.insert(0, NoTorch())
"""
MODES = ("ar", "verify", "diffusion")
WRITE = f"""
import json, sys
import mezzotint

model = mezzotint.load()
texts = {{m: model.generate("Why is the sky blue?", mode=m, max_new_tokens=24).text for m in {MODES}}}
rules = [
    model.generate("Name one", mode="diffusion", max_new_tokens=12, **rule).text
    for rule in (dict(factor=1.0), dict(entropy_bound=0.1), dict(tokens_per_step=2))
]
print(json.dumps([texts, rules, "torch" in sys.modules]))
"""
INSTALL = "pip install 'mezzotint[torch]'"


@pytest.fixture(scope="module")
def torchless(tmp_path_factory):
    """The environment of processes in which torch cannot be imported."""
    folder = tmp_path_factory.mktemp("torchless")
    (folder / "sitecustomize.py").write_text(REFUSAL)
    return os.environ | {
        "PYTHONPATH": os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")]).strip(os.pathsep)
    }


def python(*arguments, **options):
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=240, check=False, **options)


def mezzotint(*arguments, **options):
    return python("-m", "mezzotint", *arguments, **options)


def test_torch_is_refused_here(torchless):
    assert "No module named 'torch'" in python("-c", "import torch", env=torchless).stderr
    assert python("-c", "import torch").returncode == 0


@pytest.mark.model
def test_all_modes_and_rules_write_the_same_text_without_torch(torchless):
    without, having = (python("-c", WRITE, env=env) for env in (torchless, os.environ))
    assert without.returncode == 0, without.stderr
    assert json.loads(without.stdout) == json.loads(having.stdout)
    texts, rules, loaded = json.loads(without.stdout)
    assert all([*texts.values(), *rules])
    assert texts["ar"] == texts["verify"]
    assert not loaded


@pytest.mark.model
@pytest.mark.parametrize("mode", MODES)
def test_the_command_line_writes_the_same_text_without_torch(mode, torchless):
    options = ["--json", "--mode", mode, "--max-new-tokens", "9"]
    answers = [mezzotint("generate", "hi", *options, env=env) for env in (torchless, os.environ)]
    assert not any(answer.stderr for answer in answers)
    texts = [json.loads(answer.stdout)["text"] for answer in answers]
    assert texts[0] == texts[1] != ""


@pytest.mark.model
def test_a_conversation_needs_no_torch(torchless):
    options = ["--mode", "diffusion", "--max-new-tokens", "9"]
    talk = mezzotint("chat", *options, env=torchless, input="hello\nand again\n")
    assert talk.returncode == 0, talk.stderr
    assert len(talk.stdout.splitlines()) >= 2


@pytest.mark.parametrize(
    "arguments",
    [
        ["train", "mdlm-small", "--set", "data=my.txt"],
        ["train", "smollm2-dream", "--show"],
        ["league", "--corpus", "my.txt"],
        ["guide", "run"],
        ["convert", "run", "out"],
        ["models", "inspect", "run"],
        ["models", "presets"],
        ["data", "list"],
        ["generate", "hi", "--model", "run"],
        ["generate", "hi", "--model", "published"],
        ["generate", "hi", "--backend", "torch"],
        ["bench", "--engines", "ar"],
    ],
    ids=" ".join,
)
def test_a_verb_that_needs_torch_says_how_to_get_it(arguments, tmp_path, torchless):
    (tmp_path / "my.txt").write_text("the cat sat on the mat.\n" * 200)
    for folder, config in {
        "run": {"kind": "scratch"},
        "published": {"model_type": "llada", "architectures": ["LLaDAModelLM"]},
    }.items():
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "config.json").write_text(json.dumps(config))
    result = mezzotint(*arguments, env=torchless, cwd=tmp_path)
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1
    assert result.stderr.endswith(f"needs torch: {INSTALL}\n")


def test_python_gets_the_sentence_as_an_error_of_ours(torchless):
    for import_ in ("from mezzotint.decode import run", "from mezzotint.recipes import load; load('mdlm-small')"):
        script = f"import mezzotint\ntry:\n    {import_}\nexcept mezzotint.MezzotintError as error:\n    print(error)"
        assert python("-c", script, env=torchless).stdout.endswith(f"needs torch: {INSTALL}\n")


@pytest.mark.model
def test_with_neither_compiler_nor_torch_both_ways_out_are_told(torchless, tmp_path):
    (tmp_path / "models").symlink_to(where() / "models")
    bare = torchless | {"PATH": str(tmp_path), "MEZZOTINT_HOME": str(tmp_path), "CXX": ""}
    result = mezzotint("generate", "hi", env=bare)
    assert result.returncode == 2
    assert "install g++ or clang++" in result.stderr
    assert result.stderr.endswith(f"needs torch: {INSTALL}\n")
    assert result.stderr.count("\n") == 1
