"""A published diffusion model in a folder answers a prompt from the command line."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

sys.path.append(str(Path(__file__).parents[1] / "denoisers"))
import tiny_folders
from tiny_folders import STOP

from mezzotint.cli.main import run

NEW = ("--max-new-tokens", "12")
GOLDEN = Path(__file__).parents[1] / "golden" / "llada_dense"


def mezzotint(*arguments):
    command = [sys.executable, "-m", "mezzotint.cli.main", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


@pytest.fixture
def folder(tmp_path):
    """Recorded random weights, and words for their ids."""
    made = tmp_path / "tiny-llada"
    made.mkdir()
    for name in ("config.json", "model.safetensors", "generation_config.json"):
        shutil.copy(GOLDEN / name, made / name)
    config = json.loads((made / "config.json").read_text())
    words = {f"word{i}": i for i in range(config["vocab_size"])}
    words |= {"<|mdm_mask|>": words.pop(f"word{config['mask_token_id']}"), "hello": words.pop("word5")}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="word0"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.add_special_tokens(["<|mdm_mask|>"])
    tokenizer.save(str(made / "tokenizer.json"))
    return made


def test_it_writes_as_its_authors_do_or_by_another_preset(folder):
    usual = mezzotint("generate", "hello hello", "--model", str(folder), "--max-new-tokens", "16", "--json")
    assert usual.returncode == 0, usual.stderr
    numbers = json.loads(usual.stdout)
    assert numbers["mode"] == "llada-ref"
    assert 0 < numbers["tokens"] <= 16
    assert numbers["forwards"] == 16 or numbers["finish_reason"] == "stop"
    fast = mezzotint(
        "generate", "hello hello", "--model", str(folder), "--max-new-tokens", "16", "--steps", "4", "--json"
    )
    assert json.loads(fast.stdout)["forwards"] == 4
    plain = mezzotint("generate", "hello hello", "--model", str(folder), "--max-new-tokens", "16")
    assert plain.stdout.strip() == numbers["full_text"] == "hello hello" + numbers["text"]
    assert "per forward" in plain.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--preset", "nope"], "no decoding preset 'nope'"),
        (["--mode", "ar"], "takes no mode"),
        (["--system", "x"], "needs a chat format"),
        (["--max-new-tokens", "1000"], "reads at most 128"),
        (["--steps", "-1"], "steps -1 is no whole number"),
        (["--block", "0"], "block 0 is no whole number"),
        (["--backend", "native"], "the native backend runs causal models"),
        (["--verifier", "elsewhere"], "--verifier is for --preset speculative"),
    ],
)
def test_what_it_cannot_do_is_a_sentence(folder, options, message):
    result = mezzotint("generate", "hello", "--model", str(folder), *options)
    assert result.returncode == 2
    assert message in result.stderr
    assert "Traceback" not in result.stderr


def test_a_folder_without_a_tokenizer_says_so():
    result = mezzotint("generate", "hello", "--model", str(GOLDEN))
    assert result.returncode == 2
    assert "no tokenizer.json" in result.stderr


@pytest.mark.parametrize("verb", [("models", "inspect"), ("generate", "hello", "--model"), ("convert",)], ids=str)
def test_a_configuration_nested_without_end_is_a_sentence(folder, tmp_path, verb, capfd):
    (folder / "config.json").write_text("[" * 100_000)
    assert run([*verb, str(folder), *([str(tmp_path / "out")] if verb == ("convert",) else [])]) == 2
    assert "cannot read" in capfd.readouterr().err


def test_an_answer_of_its_own_length(folder):
    made = mezzotint(
        "generate", "hello hello", "--model", str(folder), "--preset", "daedal", "--max-new-tokens", "100", "--json"
    )
    assert made.returncode == 0, made.stderr
    numbers = json.loads(made.stdout)
    assert numbers["mode"] == "daedal"
    assert numbers["tokens"] <= 100


def test_temperature_zero_holds_where_a_preset_samples(folder):
    def written(*options):
        run = mezzotint("generate", "hello", "--model", str(folder), "--preset", "dream-ref", *NEW, "--json", *options)
        assert run.returncode == 0, run.stderr
        return json.loads(run.stdout)["text"]

    cold = ("--temperature", "0")
    assert written(*cold, "--seed", "1") == written(*cold, "--seed", "2")
    assert written("--seed", "1") != written("--seed", "2")


def test_a_setting_that_a_preset_does_not_have_is_refused(folder):
    made = mezzotint("generate", "hello", "--model", str(folder), "--preset", "daedal", "--steps", "4")
    assert made.returncode == 2
    assert "preset daedal has no steps" in made.stderr


def test_a_causal_network_that_checks_its_own_drafts(tmp_path):
    config = {"model_type": "qwen3", "architectures": ["Qwen3ForCausalLM"], "mask_token_id": 63, "eos_token_id": STOP}
    path = tiny_folders.folder(tmp_path / "idlm", config, normed=True)
    alone = mezzotint("generate", "word7 word8", "--model", str(path), "--family", "idlm", "--json", *NEW)
    assert alone.returncode == 0, alone.stderr
    numbers = json.loads(alone.stdout)
    assert numbers["mode"] == "idlm"
    assert numbers["forwards"] <= 12
    other = tiny_folders.folder(tmp_path / "causal", config, seed=3, normed=True)
    verified = mezzotint(
        *("generate", "word7 word8", "--model", str(path), "--family", "idlm", "--preset", "speculative"),
        *("--verifier", str(other), "--json", *NEW),
    )
    assert verified.returncode == 0, verified.stderr
    assert json.loads(verified.stdout)["text"] != numbers["text"]
    unverified = mezzotint(
        "generate", "hello", "--model", str(path), "--family", "idlm", "--preset", "speculative", *NEW
    )
    assert unverified.returncode == 2
    assert "--verifier FOLDER" in unverified.stderr


def test_a_blank_is_filled_with_as_many_tokens_as_the_model_takes(tmp_path):
    config = {"model_type": "Dream", "architectures": ["DreamModel"], "mask_token_id": 63, "eos_token_id": STOP}
    path = tiny_folders.folder(tmp_path / "dreamon", config | {"expand_token_id": 62}, biased=True)
    tiny_folders.louder(path, 62, 3)
    text = "word7 word8 ___ word9 word10"
    filled = mezzotint("generate", text, "--model", str(path), "--max-new-tokens", "20", "--seed", "3", "--json")
    assert filled.returncode == 0, filled.stderr
    numbers = json.loads(filled.stdout)
    words = numbers["text"].split()
    assert numbers["mode"] == "dreamon"
    assert words[:2] == ["word7", "word8"]
    assert words[-2:] == ["word9", "word10"]
    assert 4 < len(words) == 4 + numbers["tokens"] <= 24
    assert numbers["forwards"] != 4
    system = mezzotint("generate", text, "--model", str(path), "--system", "x")
    assert system.returncode == 2
    assert "takes no system" in system.stderr
