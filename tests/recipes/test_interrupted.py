"""What may happen to a small model's run: it is killed, its text changes, its numbers break, its disk fills."""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time

import pytest
import torch
from programs import started

from mezzotint.cli.main import run as command
from mezzotint.errors import CheckpointError, TrainingError
from mezzotint.models.trained import TrainedModel
from mezzotint.recipes import load
from mezzotint.train import checkpoint
from mezzotint.train.loop import run

TEXT = "the cat sat on the mat and the dog sat on the log. " * 110
EDITS = [
    "network.width=32", "network.layers=1", "network.heads=2", "length=16", "rows=4", "samples=0", "windows=16",
    "train.max_minutes=null", "train.steps=60", "train.log_every=1", "train.save_every=5", "train.eval_every=null",
]  # fmt: skip


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "my.txt"
    path.write_text(TEXT)
    return path


def losses(folder):
    records = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return [(r["step"], r["loss"], r["grad_norm"]) for r in records if r["kind"] == "train"]


def train(text, folder, *edits, name="mdlm-small", resume=False):
    cfg, _ = load(name, [f"data={text}", *EDITS, *edits])
    return run(cfg.build(), cfg.train, folder, resume=resume)


def test_a_killed_run_goes_on_with_the_same_losses_to_the_last_bit(text, tmp_path):
    # the rate follows the share of the run that is used, and these runs have different ends
    flat = ("train.optim.shape=constant", "train.optim.shape.warmup=0")
    sets = [part for edit in (f"data={text}", *EDITS, "train.steps=2000", *flat) for part in ("--set", edit)]
    verb = [sys.executable, "-m", "mezzotint.cli.main", "train", "mdlm-small", "--out", str(tmp_path / "killed")]
    # sums of float32 may be split by threads: both runs have as many
    threads = os.environ | {"OMP_NUM_THREADS": str(torch.get_num_threads())}
    with started([*verb, *sets], stderr=subprocess.DEVNULL, start_new_session=True, env=threads) as child:
        until = time.monotonic() + 120
        while len(checkpoint.saved(tmp_path / "killed" / "checkpoints")) < 2 and time.monotonic() < until:
            time.sleep(0.02)
        os.killpg(child.pid, signal.SIGKILL)
        assert child.wait(60) == -signal.SIGKILL
    at = int(checkpoint.saved(tmp_path / "killed" / "checkpoints")[-1].name[-8:])
    for folder, resume in ((tmp_path / "killed", True), (tmp_path / "whole", False)):
        train(text, folder, f"train.steps={at + 20}", *flat, resume=resume)
    assert len(losses(tmp_path / "whole")) == at + 20
    assert losses(tmp_path / "killed") == losses(tmp_path / "whole")


@pytest.mark.parametrize(
    ("change", "edits"),
    [("family", ["family=d3pm"]), ("vocabulary", []), ("text", [])],
)
def test_a_run_does_not_go_on_with_something_else(text, tmp_path, change, edits):
    train(text, tmp_path / "run", "train.steps=5")
    if change == "vocabulary":
        text.write_text(TEXT.replace("g", "z"))  # as many characters as before, so the weights would fit
    elif change == "text":
        text.write_text(TEXT + TEXT)
    with pytest.raises(CheckpointError, match="another text, vocabulary or family"):
        train(text, tmp_path / "run", *edits, resume=True)


def test_numbers_that_break_stop_the_run_before_the_good_weights_are_lost(text, tmp_path):
    train(text, tmp_path, "train.steps=10")
    good = checkpoint.saved(tmp_path / "checkpoints")[-1]
    before = (good / "weights.safetensors").read_bytes()
    with pytest.raises(TrainingError, match=r"at step 1\d \(batch seed 0\)"):
        train(text, tmp_path, "train.optim.lr=1e30", "train.optim.weight_decay=0", resume=True)
    assert (good / "weights.safetensors").read_bytes() == before
    assert checkpoint.saved(tmp_path / "failed")


@pytest.mark.parametrize("edit", ["family=udlm", "network.width=16", "train.optim=adamw"])
def test_a_run_that_is_refused_is_left_as_it_was(text, tmp_path, edit, capsys):
    sets = [part for each in (f"data={text}", *EDITS, "train.steps=5") for part in ("--set", each)]
    out = tmp_path / "run"
    assert command(["train", "mdlm-small", "--out", str(out), *sets]) == 0
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    assert command(["train", str(out), "--resume", "--set", "train.steps=7", "--set", edit]) == 2
    assert "Traceback" not in capsys.readouterr().err
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
    for state in ("{", "{}"):
        copy = tmp_path / f"broken{len(state)}"
        shutil.copytree(out, copy)
        (checkpoint.saved(copy / "checkpoints")[-1] / "state.json").write_text(state)
        assert command(["train", str(copy), "--resume", "--set", "train.steps=7"]) == 2
        assert "cannot read the checkpoint" in capsys.readouterr().err
    assert command(["train", str(out), "--resume", "--set", "train.steps=7"]) == 0


@pytest.mark.parametrize(
    "edits",
    [("train.optim.lr=1e60", "train.optim.vectors=1e60"), ("train.optim=adamw", "train.optim.lr=1e60")],
    ids=["muon", "adamw"],
)
def test_a_rate_that_no_float_holds_is_one_sentence_too(text, tmp_path, edits):
    with pytest.raises(TrainingError, match=r"try a lower train\.optim\.lr"):
        train(text, tmp_path, *edits)


def test_a_full_disk_at_the_end_is_one_sentence_and_the_run_can_be_finished(text, tmp_path):
    train(text, tmp_path / "run", "train.steps=10")
    kept = checkpoint.saved(tmp_path / "run" / "checkpoints")
    former = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (12_000, former[1]))
    try:
        with pytest.raises(CheckpointError, match="earlier checkpoints are unharmed"):
            train(text, tmp_path / "run", "train.steps=14", "train.save_every=null", resume=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, former)
    assert checkpoint.saved(tmp_path / "run" / "checkpoints") == kept
    assert train(text, tmp_path / "run", "train.steps=14", resume=True).step == 14


def test_a_full_disk_does_not_break_the_model_that_was_exported_before(text, tmp_path):
    train(text, tmp_path, "train.steps=5")
    export = tmp_path / "export"
    before = {path.name: path.read_bytes() for path in export.iterdir()}
    model = TrainedModel.load(export)
    former = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, former[1]))
    try:
        with pytest.raises(CheckpointError, match="cannot write the model"):
            model.save(export)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, former)
    assert {path.name: path.read_bytes() for path in export.iterdir()} == before


@pytest.mark.parametrize(
    ("verb", "said", "unsaid"),
    [
        (["train", "mdlm-small"], "go on with mezzotint train {out} --resume", "same command"),
        (["league", "--families", "ar"], "give the same command again", "--resume"),
    ],
    ids=["train", "league"],
)
def test_who_is_stopped_is_told_how_to_go_on(verb, said, unsaid, text, tmp_path):
    out = tmp_path / "out"
    corpus = ["--corpus", str(text), "--steps", "5000"] if verb[0] == "league" else ["--set", f"data={text}"]
    edits = [part for edit in EDITS if "train.steps" not in edit for part in ("--set", edit)]
    ends = ["--set", "train.steps=5000"] if verb[0] == "train" else []
    command = [sys.executable, "-m", "mezzotint.cli.main", *verb, *corpus, *edits, *ends, "--out", str(out)]
    with started(command, stderr=subprocess.PIPE, text=True) as child:
        until = time.monotonic() + 120
        while not list(out.rglob("metrics.jsonl")) and time.monotonic() < until:
            time.sleep(0.05)
        child.send_signal(signal.SIGINT)
        errors = child.communicate(timeout=120)[1]
    assert child.returncode == 130
    assert said.format(out=out) in errors
    assert unsaid not in errors
    assert "is saved" in errors
