"""Folders in the shapes of released models: what they are told to be, and what they write by their own presets."""

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

sys.path.append(str(Path(__file__).parents[1] / "denoisers"))
from tiny_folders import LAYERS, STOP, VOCAB, folder, louder

from mezzotint.decode.methods.choices import NoCache
from mezzotint.decode.methods.diffusion_gemma import UniformCanvases
from mezzotint.decode.methods.dreamon import DreamOn
from mezzotint.decode.methods.registry import METHODS, tuned
from mezzotint.denoisers.published.identify import Overrides
from mezzotint.denoisers.published.open import open_published
from mezzotint.errors import CapacityError, CheckpointError, ConfigError
from mezzotint.models.published import around, begin, fill, model_of, named, write

GOLDEN = Path(__file__).parents[1] / "golden"
MASK = VOCAB - 1
IDLM = {"model_type": "sdar", "architectures": ["SDARForCausalLM"], "mask_token_id": MASK, "eos_token_id": STOP}
SHAPES = {
    # configuration, biases, norms of heads, what the user says, block, shift
    "idlm": (IDLM, False, True, {"family": "idlm"}, None, True),
    "open_dcoder": (
        {"model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"], "eos_token_id": STOP},
        True,
        False,
        {"family": "open_dcoder", "mask_id": MASK},
        None,
        True,
    ),
    "diffcoder": (
        {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "eos_token_id": STOP},
        False,
        False,
        {"family": "diffcoder"},
        4,
        False,
    ),
    "fast_dllm": (
        {"model_type": "Fast_dLLM_Qwen", "bd_size": 16, "mask_token_id": MASK, "eos_token_id": STOP},
        True,
        False,
        {},
        16,
        True,
    ),
}


def made(tmp_path, name):
    config, biased, normed, given, *_ = SHAPES[name]
    path = folder(tmp_path / name, config, biased=biased, normed=normed)
    return path, open_published(path, given=Overrides(**given))


@pytest.mark.parametrize("name", SHAPES)
def test_it_opens_as_what_it_is(tmp_path, name):
    path, published = made(tmp_path, name)
    *_, block, shift = SHAPES[name]
    assert (published.family, published.block, published.shift) == (name, block, shift)
    assert published.mask_id == (5 if name == "diffcoder" else MASK)
    assert published.stop_ids[0] == STOP
    assert published.network.lookback == int(shift)
    stored = sum(x.numel() for x in load_file(path / "model.safetensors").values())
    assert sum(p.numel() for p in published.network.parameters()) == stored


@pytest.mark.parametrize("name", SHAPES)
def test_its_usual_preset_writes(tmp_path, name):
    _, published = made(tmp_path, name)
    how = named(published, published.method)
    texts = [write(published, [[7, 8, 9], [10]], 20, how, [1, 2]) for _ in range(2)]
    assert texts[0].texts == texts[1].texts
    assert all(0 < len(text) <= 20 and MASK not in text for text in texts[0].texts)
    assert texts[0].texts[1] == write(published, [[10]], 20, how, [2]).texts[0]
    assert all(kept.tolist() == [7, 8, 9] for kept in [texts[0].canvas.tokens[0][texts[0].canvas.fixed[0]]])


@pytest.mark.parametrize("name", SHAPES)
def test_a_tensor_too_few_or_too_many_is_named(tmp_path, name):
    path, _ = made(tmp_path, name)
    given = SHAPES[name][3]
    whole = load_file(path / "model.safetensors")
    lost = f"model.layers.{LAYERS - 1}.mlp.up_proj.weight"
    for changed, key in (
        ({k: v for k, v in whole.items() if k != lost}, lost),
        (whole | {"model.layers.0.more.weight": torch.ones(2)}, "model.layers.0.more.weight"),
    ):
        save_file(changed, path / "model.safetensors")
        with pytest.raises(CheckpointError, match=key.replace(".", r"\.")):
            open_published(path, given=Overrides(**given))


@pytest.fixture
def causal(tmp_path):
    """A causal model with the same words."""
    config = {"model_type": "qwen3", "architectures": ["Qwen3ForCausalLM"], "eos_token_id": STOP}
    return open_published(folder(tmp_path / "causal", config, seed=7, normed=True))


def greedy(published, prompt, length):
    text = list(prompt)
    for _ in range(length):
        raw = published.network.raw(torch.tensor([text]))[0, -1]
        text.append(int(raw.argmax()))
        if text[-1] in published.stop_ids:
            return text[len(prompt) : -1]
    return text[len(prompt) :]


@torch.no_grad()
def test_a_causal_model_has_the_last_word_over_a_masked_one(tmp_path, causal):
    _, published = made(tmp_path, "open_dcoder")
    texts = write(published, [[7, 8, 9], [10]], 20, named(published, "speculative"), verifier=causal).texts
    assert texts == [greedy(causal, prompt, 20) for prompt in ([7, 8, 9], [10])]


@torch.no_grad()
def test_idlm_writes_what_its_own_causal_pass_writes(tmp_path):
    _, published = made(tmp_path, "idlm")
    written = write(published, [[7, 8, 9]], 20, named(published, "idlm"))
    expected, text = [], [7, 8, 9]
    while len(expected) < 20:
        logits = published.network.raw(torch.tensor([text]))[0, -1]
        logits[MASK] = -torch.inf
        text.append(int(logits.argmax()))
        if text[-1] in published.stop_ids:
            break
        expected.append(text[-1])
    assert written.texts == [expected]
    assert written.passes <= 20


def test_verifiers_that_cannot_check_are_refused(tmp_path, causal):
    _, published = made(tmp_path, "open_dcoder")
    how = named(published, "speculative")
    with pytest.raises(ConfigError, match="only a causal model can"):
        begin(published, [[7]], 4, how, verifier=published)
    other = folder(tmp_path / "other", {"model_type": "qwen3"}, normed=True)
    words = (other / "tokenizer.json").read_text()
    (other / "tokenizer.json").write_text(words.replace("word7", "wort7"))
    with pytest.raises(ConfigError, match="another vocabulary"):
        begin(published, [[7]], 4, how, verifier=open_published(other))
    with pytest.raises(CapacityError, match="reads at most 256"):
        begin(published, [[7]], 400, how, verifier=causal)


def test_canvases_take_the_checkpoints_own_numbers():
    published = open_published(GOLDEN / "diffusion_gemma_moe")
    how = named(published, "dgemma")
    stored = json.loads((GOLDEN / "diffusion_gemma_moe" / "generation_config.json").read_text())
    assert how == UniformCanvases(steps=stored["max_denoising_steps"], bound=2.0, calm=1e-9)
    texts = [write(published, [[5, 6, 7], [8]], 20, how, [seed, seed]).texts for seed in (1, 1, 2)]
    assert texts[0] == texts[1] != texts[2]
    assert all(len(text) <= 20 for text in texts[0])
    one = write(published, [[5, 6, 7]], 9, tuned(how, "dgemma", temperature=0.5, steps=1))
    assert one.passes == -(-9 // published.block)


def test_presets_for_masks_and_for_noise_are_kept_apart(tmp_path):
    _, masked = made(tmp_path, "open_dcoder")
    with pytest.raises(ConfigError, match="does not write canvases from uniform noise"):
        begin(masked, [[7]], 4, METHODS["dgemma"])
    with pytest.raises(ConfigError, match="has no mask token"):
        begin(open_published(GOLDEN / "diffusion_gemma_moe"), [[7]], 4, METHODS["eb"])


def test_blocks_insert_and_delete_where_the_checkpoint_names_the_ids(tmp_path):
    config = SHAPES["fast_dllm"][0] | {"model_type": "sdar", "block_size": 8}
    plain = open_published(folder(tmp_path / "plain", config, normed=True))
    with pytest.raises(ConfigError, match="delete_token_id"):
        begin(plain, [[7]], 4, named(plain, "llada22"))
    config |= {"delete_token_id": 60, "split_token_id": 61}
    published = open_published(folder(tmp_path / "editing", config, normed=True))
    made = write(published, [[7, 8, 9], [10]], 20, named(published, "llada22"))
    assert not {60, 61, MASK} & {token for text in made.texts for token in text}
    with pytest.raises(CheckpointError, match="both must be ids below 64"):
        open_published(folder(tmp_path / "wrong", config | {"split_token_id": 70}, normed=True))


def test_experts_routed_by_blocks_write_alike_with_and_without_a_cache(tmp_path):
    path = shutil.copytree(GOLDEN / "llada2_moe", tmp_path / "llada22")
    config = json.loads((path / "config.json").read_text())
    stored = load_file(path / "model.safetensors")
    (path / "config.json").write_text(json.dumps(config | {"expert_capacity": 4, "block_size": 8}))
    published = open_published(path, given=Overrides(mask_id=156))
    assert sum(p.numel() for p in published.network.parameters()) == sum(x.numel() for x in stored.values())
    cached = named(published, "llada2")
    texts = [
        write(published, [[7, 8, 9], [10] * 12], 16, replace(cached, halt=False, cache=cache)).canvas.tokens
        for cache in (cached.cache, NoCache())
    ]
    assert torch.equal(*texts)


DREAM = {"model_type": "Dream", "architectures": ["DreamModel"], "mask_token_id": MASK, "eos_token_id": STOP}


@pytest.mark.parametrize("where", ["config.json", "generation_config.json", "tokenizer.json"])
def test_a_dream_that_expands_masks_says_so_somewhere(tmp_path, where):
    path = folder(tmp_path / "dreamon", DREAM, biased=True)
    if where == "tokenizer.json":
        words = (path / where).read_text().replace(f"word{MASK - 1}", "<|expand|>")
        document = json.loads(words)
        document["added_tokens"] += [document["added_tokens"][0] | {"id": MASK - 1, "content": "<|expand|>"}]
    else:
        document = (json.loads((path / where).read_text()) if where == "config.json" else {}) | {
            "expand_token_id": MASK - 1,
            "delete_token_id": STOP + 1,
        }
    (path / where).write_text(json.dumps(document))
    published = open_published(path)
    assert (published.family, published.shift) == ("dreamon", True)
    assert published.stretch_ids == (MASK - 1, STOP if where == "tokenizer.json" else STOP + 1)


def test_a_blank_in_a_folder_grows_and_shrinks(tmp_path):
    path = louder(folder(tmp_path / "dreamon", DREAM | {"expand_token_id": MASK - 1}, biased=True), MASK - 1, 3)
    published = open_published(path)
    how = named(published, "dreamon")
    assert isinstance(how, DreamOn)
    pieces = [[7, 8, 9], [10, 11], [12]]
    row = around(published, pieces, 12, how)
    assert row == [7, 8, 9, *[None] * 4, 10, 11, *[None] * 4, 12, STOP]
    assert around(published, pieces, 5, how).count(None) == 4
    run = fill(published, [row], 12, how, [3])
    lengths = {int((~canvas.fixed).sum()) for canvas in run}
    made = run.result()
    assert len(lengths) > 1
    assert max(lengths) <= 12
    text = made.canvas.tokens[0]
    assert text[made.canvas.fixed[0]].tolist() == [7, 8, 9, 10, 11, 12, STOP]
    assert not set(made.texts[0]) & {MASK, MASK - 1, STOP}
    with pytest.raises(CapacityError, match="cannot write to 263 tokens"):
        fill(published, [row], 256, how)
    with pytest.raises(ConfigError, match="expand_token_id and delete_token_id"):
        fill(open_published(folder(tmp_path / "dream", DREAM, biased=True)), [row], 12, how)


def test_an_id_that_expands_is_written_although_the_tokenizer_has_no_word_for_it(tmp_path):
    path = folder(tmp_path / "dreamon", DREAM | {"mask_token_id": 20, "expand_token_id": 40}, biased=True)
    words = json.loads((path / "tokenizer.json").read_text())
    words["model"]["vocab"] = {word: at for word, at in words["model"]["vocab"].items() if at < 30}
    words["added_tokens"] = [words["added_tokens"][0] | {"id": 20, "content": "word20"}]
    (path / "tokenizer.json").write_text(json.dumps(words))
    assert model_of(open_published(path)).words == 41


@pytest.mark.parametrize("expand", [STOP, VOCAB, "x"])
def test_ids_that_cannot_be_are_refused(tmp_path, expand):
    path = folder(tmp_path / "dreamon", DREAM | {"expand_token_id": expand}, biased=True)
    with pytest.raises(CheckpointError, match=f"expands masks by token {expand}"):
        open_published(path)
