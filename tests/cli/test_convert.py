"""Converted models load in transformers and compute what ours compute."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM

from mezzotint.cli.main import run
from mezzotint.data.characters import Characters
from mezzotint.data.subwords import Subwords
from mezzotint.denoisers.networks.small_transformer import TransformerConfig
from mezzotint.denoisers.published.attention_patterns import dense
from mezzotint.denoisers.published.open import open_published
from mezzotint.families import AR, BD3LM, MDLM
from mezzotint.models.trained import TrainedConfig, TrainedModel

GOLDEN = Path(__file__).parents[1] / "golden"
TEXT = "one fish\ntwo fish, déjà vu"
FAMILIES = {"ar": AR(), "mdlm": MDLM(), "bd3lm": BD3LM(block=4)}


def trained(folder, family, vocabulary, **shape):
    """A network with random numbers everywhere, saved as a run leaves it."""
    network = TransformerConfig(width=32, layers=2, heads=4, **shape)
    torch.manual_seed(0)
    model = TrainedModel.fresh(TrainedConfig(network=network, family=family, length=32), vocabulary)
    with torch.no_grad():
        for p in model.network.parameters():
            p.add_(torch.randn_like(p) * 0.3)
    (folder / "export").mkdir(parents=True)
    model.save(folder / "export")
    return model


@torch.no_grad()
def theirs(folder, tokens):
    """Logits of transformers under the pattern that the converted model states."""
    ours = open_published(folder)
    network = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager").eval()
    seen = dense(ours.attention, tokens.shape[1], 0, tokens.device).expand(1, 1, tokens.shape[1], tokens.shape[1])
    mask = torch.zeros(seen.shape).masked_fill(~seen, torch.finfo(torch.float32).min)
    return ours, network(tokens, attention_mask=mask).logits


@pytest.mark.parametrize("name", FAMILIES)
@torch.no_grad()
def test_trained_models_load_in_transformers_with_the_same_logits(tmp_path, name):
    model = trained(tmp_path / "run", FAMILIES[name], Characters.of(TEXT))
    assert run(["convert", str(tmp_path / "run"), str(tmp_path / "out")]) == 0
    tokens = torch.from_numpy(model.vocabulary.encode(TEXT))[None, :16]
    reading = model.family.reading.arrange(tokens, tokens)
    want = model.network(reading)
    opened, got = theirs(tmp_path / "out", reading.x)
    torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(opened.network.raw(reading.x), want, rtol=1e-4, atol=1e-4)
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    if name == "ar":
        assert opened.family == "ar"
        assert config["bos_token_id"] == model.vocabulary.mask_id
    else:
        assert opened.mask_id == config["mask_token_id"] == model.vocabulary.mask_id
        assert opened.block == config.get("block_size") == model.family.block
        assert not opened.shift


@pytest.mark.parametrize("kind", [Characters.of, lambda text: Subwords.of([text] * 9, 300)])
def test_the_tokenizer_comes_along(tmp_path, kind):
    vocabulary = kind(TEXT)
    trained(tmp_path / "run", MDLM(), vocabulary)
    assert run(["convert", str(tmp_path / "run"), str(tmp_path / "out")]) == 0
    tokenizer = Tokenizer.from_file(str(tmp_path / "out" / "tokenizer.json"))
    ids = tokenizer.encode(TEXT).ids
    assert ids == vocabulary.encode(TEXT).tolist()
    assert tokenizer.decode(ids) == TEXT
    assert tokenizer.token_to_id("[MASK]") == vocabulary.mask_id


@pytest.mark.parametrize(("name", "kind"), [("sdar", "qwen3"), ("sdar_moe", "qwen3_moe"), ("wedlm", "qwen2")])
def test_published_models_convert_to_the_model_they_came_from(tmp_path, name, kind):
    assert run(["convert", str(GOLDEN / name), str(tmp_path / "out")]) == 0
    assert json.loads((tmp_path / "out" / "config.json").read_text())["model_type"] == kind
    tokens = torch.arange(3, 15)[None]
    ours = open_published(GOLDEN / name)
    stored = load_file(tmp_path / "out" / "model.safetensors")
    assert ("model.layers.0.mlp.experts.1.gate_proj.weight" in stored) is (name == "sdar_moe")
    opened, got = theirs(tmp_path / "out", tokens)
    torch.testing.assert_close(got, ours.network(tokens), rtol=1e-4, atol=1e-4)
    family = "wedlm" if name == "wedlm" else "sdar"
    assert (opened.family, opened.block, opened.mask_id) == (family, ours.block, ours.mask_id)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((str(GOLDEN / "llada2_moe"), "--mask-id", "5"), "heads that turn in part"),
        ((str(GOLDEN / "diffusion_gemma_moe"),), "a diffusion_gemma network has no counterpart"),
        ((str(GOLDEN / "diffugpt"),), "a diffugpt network has no counterpart"),
        ((str(GOLDEN),), "there is no config.json"),
    ],
)
def test_what_no_layout_holds_is_one_sentence(tmp_path, capfd, arguments, sentence):
    assert run(["convert", arguments[0], str(tmp_path / "out"), *arguments[1:]]) == 2
    assert sentence in " ".join(capfd.readouterr().err.split())
    assert not (tmp_path / "out").exists()


def test_a_network_that_is_told_the_time_is_written_as_it_opens_here(tmp_path, capfd):
    model = trained(tmp_path / "run", MDLM(), Characters.of(TEXT), timed=True)
    assert run(["convert", str(tmp_path / "run"), str(tmp_path / "out")]) == 0
    assert "it opens in mezzotint" in " ".join(capfd.readouterr().err.split())
    opened = TrainedModel.load(tmp_path / "out")
    torch.testing.assert_close(opened.network.state_dict(), model.network.state_dict(), rtol=0, atol=0)
    assert run(["generate", "the _", "--model", str(tmp_path / "out"), "--steps", "2"]) == 0


def test_a_folder_in_use_is_refused(tmp_path, capfd):
    trained(tmp_path / "run", MDLM(), Characters.of(TEXT), timed=True)
    assert run(["convert", str(tmp_path / "run"), str(tmp_path)]) == 2
    assert "is not empty" in " ".join(capfd.readouterr().err.split())
    assert run(["convert", str(GOLDEN / "sdar"), str(tmp_path)]) == 2
    assert "is not empty" in " ".join(capfd.readouterr().err.split())
