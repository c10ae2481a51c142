"""A run gives its model before its end, at its end, and when it went on after that."""

import json
import shutil
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file

from mezzotint.cli.main import run as command
from mezzotint.errors import CheckpointError
from mezzotint.models.run_folder import model_folder
from mezzotint.models.trained import TrainedModel
from mezzotint.recipes import load
from mezzotint.train.lock import alone, going
from mezzotint.train.loop import run
from mezzotint.train.run_files import saved
from mezzotint.train.run_record import open_run

EDITS = [
    "network.width=32", "network.layers=1", "network.heads=2", "length=16", "rows=4", "samples=0", "windows=16",
    "train.max_minutes=null", "train.steps=8", "train.save_every=4", "train.eval_every=null",
]  # fmt: skip


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "my.txt"
    path.write_text("the cat sat on the mat and the dog sat on the log. " * 110)
    return path


def trained(text, folder, *edits, name="mdlm-small", resume=False):
    cfg, _ = load(name, [f"data={text}", *EDITS, *edits])
    open_run(folder, cfg, name, resume=resume)
    return run(cfg.build(), cfg.train, folder, resume=resume)


def unfinished(folder):
    """As a run is whose process was killed after its last checkpoint."""
    shutil.rmtree(folder / "export")
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    kept = [line for line in lines if line.get("event") != "finished"]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in kept))


@pytest.mark.parametrize("name", ["mdlm-small", "sed-small", "edit-flow-small"])
def test_an_interrupted_run_has_the_averaged_model_of_its_newest_checkpoint(name, text, tmp_path):
    trained(text, tmp_path / "run", name=name)
    whole = TrainedModel.load(tmp_path / "run" / "export")
    unfinished(tmp_path / "run")
    folder = model_folder(tmp_path / "run")
    assert folder == saved(tmp_path / "run" / "checkpoints")[-1]
    early = TrainedModel.load(folder)
    assert not early.network.training
    for name, value in whole.network.state_dict().items():
        torch.testing.assert_close(early.network.state_dict()[name], value, rtol=0, atol=0)


def test_a_finished_run_has_its_export_until_it_has_gone_on(text, tmp_path):
    trained(text, tmp_path / "run")
    assert model_folder(tmp_path / "run") == tmp_path / "run" / "export"
    assert model_folder(tmp_path / "run" / "export") == tmp_path / "run" / "export"
    former = load_file(tmp_path / "run" / "export" / "model.safetensors")
    trained(text, tmp_path / "run", "train.steps=12", resume=True)
    shutil.rmtree(tmp_path / "run" / "export")
    trained_again = tmp_path / "run" / "export"
    TrainedModel.load(saved(tmp_path / "run" / "checkpoints")[-1]).save(_made(trained_again))
    assert not torch.equal(load_file(trained_again / "model.safetensors")["head.weight"], former["head.weight"])
    # steps beyond the last export: what the interrupted session saved is newer
    events = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    (tmp_path / "run" / "metrics.jsonl").write_text(
        "\n".join(line for line in events if '"step": 12' not in line) + "\n"
    )
    assert model_folder(tmp_path / "run") == saved(tmp_path / "run" / "checkpoints")[-1]


def _made(folder):
    folder.mkdir()
    return folder


def test_what_is_no_run_has_no_model(tmp_path):
    assert model_folder(tmp_path) is None
    assert model_folder(tmp_path / "nowhere") is None
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    assert model_folder(tmp_path) is None


def test_a_run_that_has_saved_nothing_says_so(tmp_path):
    (tmp_path / "run.json").write_text("{}")
    with pytest.raises(CheckpointError, match="saved no checkpoint, finish it with mezzotint train"):
        model_folder(tmp_path)


def test_a_stopped_run_is_sampled_and_ended_with_its_export_and_a_card(text, tmp_path, capsys):
    trained(text, tmp_path / "run")
    unfinished(tmp_path / "run")
    out = str(tmp_path / "run")
    assert command(["generate", "the _at", "--model", out, "--steps", "2"]) == 0
    assert capsys.readouterr().out.startswith("the ")
    assert command(["train", out, "--export"]) == 0
    assert "exported after 8 steps" in capsys.readouterr().out
    assert model_folder(tmp_path / "run") == tmp_path / "run" / "export"
    card = (tmp_path / "run" / "export" / "README.md").read_text()
    assert "family `mdlm`" in card
    assert "8 steps" in card
    assert str(text) in card
    assert command(["generate", "the _at", "--model", f"{out}/export", "--steps", "2"]) == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(["nowhere", "--export"], "there is no run in nowhere to export"), (["x", "--export", "--resume"], "or --export")],
)
def test_there_is_nothing_to_export_without_a_run(arguments, said, capsys):
    assert command(["train", *arguments]) == 2
    assert said in capsys.readouterr().err


def test_only_one_training_at_a_time_is_in_a_folder(text, tmp_path):
    trained(text, tmp_path / "run")
    assert not going(tmp_path / "run")
    with alone(tmp_path / "run"):
        assert going(tmp_path / "run")
        assert command(["train", str(tmp_path / "run"), "--export"]) == 2
    assert not going(tmp_path / "run")


def test_telling_what_a_folder_is_needs_no_torch(tmp_path):
    asked = "import sys, mezzotint.models.run_folder as m; assert 'torch' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", asked], check=False).returncode == 0
