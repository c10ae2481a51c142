"""The command line as a user meets it: quick help, one sentence for a mistake, the right exit code."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from programs import started

from mezzotint.cli.main import VERBS, run

TEXT = "the cat sat on the mat. the dog sat on the log.\n"
SMALL = ["-s", "network.width=16", "-s", "network.layers=1", "-s", "network.heads=2", "-s", "length=16"]
QUICK = [*SMALL, "-s", "rows=4", "-s", "sample_steps=4", "-s", "train.max_minutes=null"]


def command(*arguments):
    return [sys.executable, "-m", "mezzotint.cli.main", *arguments]


def mezzotint(*arguments, **options):
    return subprocess.run(command(*arguments), capture_output=True, text=True, timeout=120, **options)


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "my text.txt"
    path.write_text(TEXT * 60)
    return path


def test_help_loads_nothing_heavy():
    script = "import sys; from mezzotint.cli.main import run; run(['--help']); print('torch' in sys.modules)"
    shown = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60
    ).stdout
    assert shown.strip().endswith("False")
    assert all(verb in shown for verb in ("generate", "chat", "models", "train", "recipes", "bench"))


def test_version_and_recipes_answer():
    assert mezzotint("--version").stdout.startswith("mezzotint ")
    assert "mdlm-small" in json.loads(mezzotint("recipes", "--json").stdout)
    assert "mdlm-small" in mezzotint("recipes").stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "nope"], "no recipe is called 'nope'"),
        (["train", "mdlm-small"], "--set data=my.txt"),
        (["train", "mdlm-small", "-s", "data=missing.txt"], "cannot read the text missing.txt"),
        (["train", "mdlm-small", "-s", "train.steps=0"], "train.steps: Input should be greater than 0"),
        (["train", "mdlm-small", "-s", "steps"], "write it as path=value"),
        (["train"], "Missing argument 'recipe': see mezzotint train --help\n"),
        (["paint"], "No such command 'paint': see mezzotint --help\n"),
        (["genrate", "hi"], "No such command 'genrate'. Did you mean 'generate'? See mezzotint --help\n"),
        (["models", "lst"], "No such command 'lst'. Did you mean 'list'? See mezzotint models --help\n"),
        (["generate", "hi", "--temprature", "1"], "Possible options: --temperature"),
        (["models", "paint"], "No such command 'paint': see mezzotint models --help\n"),
        (["generate", "hi", "--max-new-tokens", "some"], "Invalid value for '--max-new-tokens'"),
        (["generate", "hi", "--paint"], "No such option: --paint"),
    ],
)
def test_mistakes_are_a_sentence_and_exit_code_2(arguments, message, tmp_path):
    result = mezzotint(*arguments, cwd=tmp_path)
    assert result.returncode == 2
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert "Usage" not in result.stderr
    assert result.stdout == ""


@pytest.mark.parametrize("arguments", [[], ["models"]])
def test_no_words_at_all_are_answered_with_help(arguments):
    result = mezzotint(*arguments)
    assert (result.returncode, result.stderr) == (2, "")
    assert " ".join(["Usage: mezzotint", *arguments, "[OPTIONS] COMMAND"]) in result.stdout


@pytest.mark.parametrize("verb", [[], *([name] for name in VERBS), ["models", "pull"], ["data", "build"]], ids=" ".join)
def test_every_verb_explains_itself_at_h(verb, capsys):
    assert run([*verb, "-h"]) == 0
    assert f"Usage: {' '.join(['mezzotint', *verb])} " in capsys.readouterr().out


def test_the_package_is_a_program_too():
    asked = subprocess.run([sys.executable, "-m", "mezzotint", "--version"], capture_output=True, text=True, timeout=60)
    assert asked.stdout == mezzotint("--version").stdout != ""


@pytest.mark.parametrize(
    ("typed", "offered"), [(["ge"], "generate"), (["generate", "--temp"], "--temperature"), (["models", "pu"], "pull")]
)
def test_the_shell_completes_verbs_and_options(typed, offered):
    asking = {
        "_MEZZOTINT_COMPLETE": "complete_bash",
        "COMP_WORDS": " ".join(["mezzotint", *typed]),
        "COMP_CWORD": str(len(typed)),
    }
    assert mezzotint(env=os.environ | asking).stdout.split() == [offered]


def test_names_complete_in_python():
    import mezzotint as package

    assert {"load", "Model", "Answer", "MezzotintError"} <= set(dir(package))
    assert all(getattr(package, name) is not None for name in dir(package))


def test_train_learns_records_and_refuses_to_overwrite(text, tmp_path):
    out = tmp_path / "run"
    arguments = ["train", "mdlm-small", "-s", f"data={text}", *QUICK, "-s", "train.steps=6", "--out", str(out)]
    result = mezzotint(*arguments, "--json")
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["steps"] == 6
    assert "sample 1" in result.stderr
    record = json.loads((out / "run.json").read_text())
    assert record["recipe"] == "mdlm-small"
    assert record["config"]["data"] == str(text)
    assert {"command", "git", "machine", "torch", "version"} <= record["sessions"][0].keys()
    assert (out / "export" / "model.safetensors").exists()

    again = mezzotint(*arguments)
    assert again.returncode == 2
    assert "--resume" in again.stderr
    longer = mezzotint("train", str(out), "--resume", "-s", "train.steps=8", "--json")
    assert json.loads(longer.stdout)["steps"] == 8
    assert len(json.loads((out / "run.json").read_text())["sessions"]) == 2


def test_what_cannot_begin_leaves_nothing_behind(text, tmp_path):
    out = tmp_path / "run"
    arguments = ["train", "mdlm-small", *QUICK, "-s", "train.steps=2", "--out", str(out)]
    wrong = mezzotint(*arguments, "-s", "data=missing.txt")
    assert wrong.returncode == 2
    assert not out.exists()
    right = mezzotint(*arguments, "-s", f"data={text}", "--json")
    assert right.returncode == 0, right.stderr
    before = (out / "run.json").read_text()
    assert mezzotint("train", str(out), "--resume", "-s", "data=missing.txt").returncode == 2
    assert (out / "run.json").read_text() == before


def test_an_interrupt_saves_and_says_how_to_go_on(text, tmp_path):
    out = tmp_path / "run"
    endless = ["train", "mdlm-small", "-s", f"data={text}", *QUICK, "-s", "train.steps=1000000"]
    with started(command(*endless, "--out", str(out)), stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 60
        while not (out / "metrics.jsonl").exists() and time.monotonic() < deadline:
            time.sleep(0.1)
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert f"go on with mezzotint train {out} --resume" in errors
    assert len(list((out / "checkpoints").glob("step-*"))) == 1


def test_a_closed_pipe_ends_quietly():
    read, written = os.pipe()
    os.close(read)
    result = subprocess.run(command("recipes"), stdout=written, stderr=subprocess.PIPE, text=True, timeout=60)
    os.close(written)
    assert result.stderr == ""
    assert result.returncode == 141
