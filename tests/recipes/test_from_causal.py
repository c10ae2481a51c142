"""Causal checkpoints become diffusion models: a tiny random Llama with bytes as tokens, on a toy language."""

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

sys.path.insert(0, str(Path(__file__).parents[1] / "checkpoints"))
from tiny_files import CONTROL, DIM, HEADS, KV_HEADS, LAYERS, tokenizer_json, weights, write_folder

from mezzotint.batch import Batch
from mezzotint.checkpoints import open_checkpoint
from mezzotint.cli.main import run as command
from mezzotint.data.tokenizer import Tokenizer
from mezzotint.denoisers.lora import LoRA, attach, merged
from mezzotint.denoisers.networks.llama import EVERYTHING, causal
from mezzotint.denoisers.published.add_mask import TrainableDecoder, mask_of, with_mask
from mezzotint.denoisers.published.attention_patterns import BlockCausalPattern, FullPattern
from mezzotint.denoisers.published.export import ExportMarks, write
from mezzotint.denoisers.published.open import AlignedNetwork, TrainableNetwork, open_published
from mezzotint.errors import CheckpointError, ConfigError, MezzotintError
from mezzotint.evaluate.infilling import infilled, middle, scattered
from mezzotint.families.diffullama import DiffuLLaMA
from mezzotint.families.dream import Dream
from mezzotint.families.fast_dllm import FastDLLM
from mezzotint.families.llada import LLaDA
from mezzotint.families.llada2 import LLaDA2
from mezzotint.families.sdar import SDAR
from mezzotint.recipes import load
from mezzotint.recipes.from_causal import model_of
from mezzotint.rng import Rng
from mezzotint.train.loop import run

NAMES = (
    "smollm2-diffullama", "smollm2-dream", "smollm2-sdar", "smollm2-fast-dllm", "smollm2-efficient-dlm",
    "smollm2-wedlm",
)  # fmt: skip
BLOCKS = {"smollm2-sdar": 4, "smollm2-fast-dllm": 8, "smollm2-efficient-dlm": 8}
SHORT = {"smollm2-efficient-dlm": ["family.block=8"], "smollm2-wedlm": ["family.block=8"]}
IN_PLACE = ("smollm2-sdar", "smollm2-efficient-dlm", "smollm2-wedlm")
EDITS = [
    "length=16", "rows=8", "hole=3", "windows=8", "lora=null", "train.steps=60", "train.optim.lr=3e-3",
    "train.log_every=1", "train.eval_every=null", "train.save_minutes=null",
]  # fmt: skip
FLAT = ("train.optim.shape=constant", "train.optim.shape.warmup=0")


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A folder with random weights, and two rows of the embedding that no token has."""
    folder = write_folder(tmp_path_factory.mktemp("models") / "tiny", max_position_embeddings=256)
    document = tokenizer_json()
    document["model"]["vocab"] |= {text: index for index, text in enumerate(CONTROL)}
    (folder / "tokenizer.json").write_text(json.dumps(document))
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps(settings | {"chat_template": ""}))
    return folder


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    path = tmp_path_factory.mktemp("text") / "my.txt"
    path.write_text("the cat sat on the mat and the dog sat on the log. " * 200)
    return path


@pytest.fixture
def start(base, text, tmp_path):
    """Train a recipe in a folder."""

    def go(name, *edits, folder="run", resume=False):
        cfg, _ = load(name, [f"model={base}", f"data={text}", *EDITS, *SHORT.get(name, []), *edits])
        return run(cfg.build(), cfg.train, tmp_path / folder, resume=resume)

    return go


def records(folder, kind):
    return [r for r in map(json.loads, (folder / "metrics.jsonl").read_text().splitlines()) if r["kind"] == kind]


def losses(folder):
    return [(r["step"], r["loss"], r["grad_norm"]) for r in records(folder, "train")]


@pytest.mark.parametrize("name", NAMES)
def test_the_loss_falls_and_more_is_found_than_before(start, tmp_path, name):
    annealed = ["family.anneal=30"] if name == "smollm2-diffullama" else []
    start(name, "train.steps=100", "train.optim.lr=1e-2", *annealed)
    found = [loss for _, loss, _ in losses(tmp_path / "run")]
    assert np.mean(found[-15:]) < 0.8 * np.mean(found[:15])
    before, after = records(tmp_path / "run", "eval")
    assert (before["step"], after["step"]) == (0, 100)
    assert after["loss"] < 0.8 * before["loss"]
    assert after["50% missing"] > before["50% missing"] + 3 * after["50% missing, error"] > 0


def test_idlm_drafts_its_own_text_and_stays_a_causal_model(start, tmp_path, capsys):
    start("smollm2-idlm", "train.steps=150", "train.optim.lr=1e-2")
    before, after = records(tmp_path / "run", "eval")
    assert after["loss"] < 0.8 * before["loss"]
    parts = [(r["masked"], r["next"]) for r in records(tmp_path / "run", "train")]
    early, late = np.mean(parts[:15], 0), np.mean(parts[-15:], 0)
    assert (late < 0.8 * early).all()
    place = str(tmp_path / "run")
    config = json.loads((tmp_path / "run" / "export" / "config.json").read_text())
    assert (config["is_causal"], config["shift_logits"], config["mask_token_id"]) == (True, True, 261)
    assert open_published(tmp_path / "run" / "export").family == "idlm"
    assert command(["generate", "the cat sat", "--model", place, "--max-new-tokens", "24", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["mode"] == "idlm"
    assert told["full_text"].startswith("the cat sat")
    assert told["tokens"] == 24
    assert told["forwards"] < 20
    # the same text, one token after the other, by the causal model alone
    network = open_published(tmp_path / "run" / "export").network
    tokenizer = Tokenizer.from_spec(open_checkpoint(str(tmp_path / "run" / "export")).tokenizer)
    ids = [tokenizer.eos_ids[0], *tokenizer.encode("the cat sat")]
    with torch.no_grad():
        for _ in range(24):
            raw = network.raw(torch.tensor([ids]))[0, -1]
            ids.append(int(raw[:261].argmax()))
    assert tokenizer.decode(ids[1:]) == told["full_text"]
    assert command(["generate", "the cat ___ on the mat", "--model", place]) == 2
    assert "cannot fill holes" in capsys.readouterr().err
    assert command(["generate", "the cat", "--model", place, "--steps", "4"]) == 2
    assert "the preset idlm has no steps" in capsys.readouterr().err


def test_adapters_find_more_than_before_on_a_frozen_network(start, base, tmp_path):
    start("smollm2-dream", 'lora={"rank": 8}', "train.steps=100", "train.optim.lr=2e-2")
    before, after = records(tmp_path / "run", "eval")
    assert after["50% missing"] > before["50% missing"] + 3 * after["50% missing, error"] > 0
    frozen, found = weights(), load_file(tmp_path / "run" / "export" / "model.safetensors")
    name = "model.embed_tokens.weight"
    assert np.array_equal(found[name][:261].numpy(), frozen[name])
    adapted = "model.layers.0.self_attn.q_proj.weight"
    assert not np.array_equal(found[adapted].numpy(), frozen[adapted])


@pytest.mark.parametrize("name", NAMES)
def test_the_run_writes_fills_holes_and_converts(start, tmp_path, capsys, name):
    start(name, "train.steps=4", "train.eval_first=false")
    place = str(tmp_path / "run")
    assert command(["generate", "the cat", "--model", place, "--max-new-tokens", "6"]) == 0
    said = capsys.readouterr()
    assert said.out.startswith("the cat")
    assert command(["generate", "the cat ___ on the mat", "--model", place, "--json"]) == 0
    filled = json.loads(capsys.readouterr().out)
    assert filled["text"].startswith("the cat")
    assert filled["text"].endswith(" on the mat")
    assert filled["tokens"] == 3
    assert filled["forwards"] <= 12
    assert command(["convert", place, str(tmp_path / "out")]) == 0
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["model_type"] == "llama"
    assert config["mask_token_id"] == 261
    assert config.get("block_size") == BLOCKS.get(name)
    assert config["shift_logits"] is (name not in IN_PLACE)
    assert config["is_causal"] is (name == "smollm2-wedlm")
    ours, theirs = (load_file(tmp_path / at / "model.safetensors") for at in ("run/export", "out"))
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    assert command(["generate", "the cat", "--model", str(tmp_path / "out"), "--max-new-tokens", "6"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == said.out.splitlines()[-1]


@pytest.mark.parametrize(("name", "lora"), [*((name, "null") for name in NAMES), ("smollm2-dream", '{"rank": 4}')])
def test_a_run_that_stopped_goes_on_with_the_same_losses_to_the_last_bit(start, tmp_path, name, lora):
    edits = (f"lora={lora}", *FLAT)
    start(name, "train.steps=9", *edits, folder="whole")
    start(name, "train.steps=5", *edits, folder="halves")
    start(name, "train.steps=9", *edits, folder="halves", resume=True)
    assert losses(tmp_path / "halves") == losses(tmp_path / "whole")
    again = open_published(tmp_path / "halves" / "export"), open_published(tmp_path / "whole" / "export")
    assert all(torch.equal(a, b) for a, b in zip(*(model.network.parameters() for model in again), strict=True))


@pytest.mark.parametrize("lora", ["null", '{"rank": 4}'])
def test_a_qwen_becomes_one_too(start, base, tmp_path, lora):
    biases = {
        f"model.layers.{depth}.self_attn.{name}_proj.bias": np.full(rows, 0.1, np.float32)
        for depth in range(LAYERS)
        for name, rows in (("q", HEADS * DIM), ("k", KV_HEADS * DIM), ("v", KV_HEADS * DIM))
    }
    qwen = write_folder(tmp_path / "qwen", weights() | biases, model_type="qwen2")
    shutil.copy(base / "tokenizer.json", qwen / "tokenizer.json")
    start("smollm2-dream", f"model={qwen}", f"lora={lora}", "train.steps=2", "train.eval_first=false")
    made = tmp_path / "run" / "export"
    assert json.loads((made / "config.json").read_text())["model_type"] == "qwen2"
    assert biases.keys() < load_file(made / "model.safetensors").keys()
    assert open_published(made).mask_id == 261


@pytest.mark.parametrize("family", ["llada", "llada2"])
@pytest.mark.parametrize("lora", ["null", '{"rank": 4}'])
def test_a_recipe_takes_the_other_published_families_too(start, tmp_path, capsys, family, lora):
    edits = ["family.block=8"] if family == "llada2" else []
    start("smollm2-sdar", f"family={family}", *edits, f"lora={lora}", "train.steps=60", "train.optim.lr=1e-2")
    before, after = records(tmp_path / "run", "eval")
    assert after["50% missing"] > before["50% missing"]
    opened = open_published(tmp_path / "run" / "export")
    assert (opened.block, opened.shift, opened.mask_id) == (8 if edits else None, False, 261)
    assert command(["generate", "the cat ___ on the mat", "--model", str(tmp_path / "run")]) == 0
    assert capsys.readouterr().out.startswith("the cat")


def test_another_family_does_not_go_on_with_a_run(start):
    start("smollm2-dream", "train.steps=2")
    with pytest.raises(CheckpointError, match="another text, vocabulary or family"):
        start("smollm2-diffullama", "train.steps=4", resume=True)


def test_attention_goes_from_causal_to_full(base):
    checkpoint = open_checkpoint(base)
    seen = []

    class Watched(TrainableDecoder):
        def hidden_at(self, inputs, t, rows):
            seen.append(inputs.attend.dense())
            return super().hidden_at(inputs, t, rows)

    mask_id = mask_of(checkpoint)
    decoder = with_mask(checkpoint, mask_id)
    network = Watched(AlignedNetwork(decoder, FullPattern(), 1))
    tokens = torch.randint(3, 250, (2, 12), generator=torch.Generator().manual_seed(0))
    batch = Batch(tokens, torch.ones_like(tokens, dtype=torch.bool))
    first = DiffuLLaMA(anneal=10**9).build(decoder.config.vocab, mask_id).objective(network, batch, Rng(0, 0))
    assert torch.equal(seen[-1][0, 0], causal(12, 12, "cpu"))
    objective = DiffuLLaMA(anneal=10).build(decoder.config.vocab, mask_id).objective
    shares = []
    for step in range(12):
        objective(network, batch, Rng(0, step))
        shares.append(1.0 if seen[-1] is None else float(seen[-1].float().mean()))
    assert seen[-1] is None
    assert shares[0] < 0.75 < shares[6] < shares[9] == 1
    # under a causal mask the first batch asks what the checkpoint already computes
    causally = Dream(near=None).build(decoder.config.vocab, mask_id).objective.over(_Causal())
    torch.testing.assert_close(first.total, causally(network, batch, Rng(0, 0)).total)


class _Causal:
    def arrange(self, x_t, x_0):
        from mezzotint.layouts import Attend, Inputs
        from mezzotint.masks import causal as mask

        columns = x_t.shape[1]
        return Inputs(x_t, torch.arange(columns), Attend(columns, columns, mask))

    def extract(self, raw):
        return raw


@pytest.mark.parametrize(
    "config", [DiffuLLaMA(anneal=5), Dream(near=0.3), SDAR(block=4), FastDLLM(block=4), LLaDA(), LLaDA2(block=4)]
)
@pytest.mark.parametrize("tied", [True, False])
def test_logits_of_masked_columns_alone_give_the_same_loss_and_gradients(tmp_path, config, tied):
    tensors = weights() if tied else weights() | {"lm_head.weight": weights(1)["model.embed_tokens.weight"]}
    checkpoint = open_checkpoint(write_folder(tmp_path / "tiny", tensors, tie_word_embeddings=tied))
    decoder = with_mask(checkpoint, 261)
    assert decoder.embed.weight.shape[0] == decoder.head.weight.shape[0] == 262
    torch.testing.assert_close(decoder.head.weight[261], decoder.head.weight[:261].mean(0))
    family = config.build(262, 261)
    pattern = FullPattern() if family.block is None else BlockCausalPattern(family.block)
    tokens = torch.randint(3, 250, (3, 12), generator=torch.Generator().manual_seed(0))
    batch = Batch(tokens, torch.ones_like(tokens, dtype=torch.bool))
    found = []
    for wrap in (TrainableDecoder, TrainableNetwork):
        decoder.zero_grad()
        loss = family.objective(wrap(AlignedNetwork(decoder, pattern, family.lookback)), batch, Rng(4, 1))
        loss.total.backward()
        found.append((loss, {name: p.grad.clone() for name, p in decoder.named_parameters()}))
    torch.testing.assert_close(found[0][0].total, found[1][0].total)
    torch.testing.assert_close(found[0][0].per_token, found[1][0].per_token)
    torch.testing.assert_close(found[0][1], found[1][1], rtol=1e-4, atol=1e-6)


def test_adapters_alone_are_trained_and_merge_into_the_same_network(base):
    checkpoint = open_checkpoint(base)
    decoder = with_mask(checkpoint, mask_of(checkpoint))
    tokens = torch.tensor([[5, 261, 7, 261, 30]])
    plain = decoder(tokens, attend=EVERYTHING).logits
    torch.manual_seed(0)
    attach(decoder, LoRA(rank=4), 261)
    trained = {name for name, p in decoder.named_parameters() if p.requires_grad}
    assert trained == {"embed.change"} | {f"layers.{i}.{m}.{x}" for i in (0, 1) for m in LoRA().on for x in "ab"}
    torch.testing.assert_close(decoder(tokens, attend=EVERYTHING).logits, plain)
    with torch.no_grad():
        for name in trained:
            decoder.get_parameter(name).normal_(0, 0.1)
    hidden = decoder(tokens, attend=EVERYTHING, head=False).hidden
    assert not torch.allclose(hidden, plain[..., : hidden.shape[-1]])
    alone = merged(decoder)
    torch.testing.assert_close(alone(tokens, attend=EVERYTHING, head=False).hidden, hidden, rtol=1e-4, atol=1e-5)
    plainly = {name for name, _ in with_mask(checkpoint, 261).named_parameters()}
    assert {name for name, _ in alone.named_parameters()} == plainly | {"head.weight"}
    with pytest.raises(ConfigError, match="cannot put an adapter on 'qkv'"):
        attach(alone, LoRA(on=("qkv",)), 261)


@pytest.mark.parametrize("tied", [True, False])
def test_a_merged_network_has_the_logits_that_were_trained_the_masks_own_included(tmp_path, tied):
    tensors = weights() if tied else weights() | {"lm_head.weight": weights(1)["model.embed_tokens.weight"]}
    checkpoint = open_checkpoint(write_folder(tmp_path / "tiny", tensors, tie_word_embeddings=tied))
    decoder = with_mask(checkpoint, 261)
    attach(decoder, LoRA(rank=4), 261)
    with torch.no_grad():
        for p in decoder.parameters():
            if p.requires_grad:
                p.normal_(0, 0.1)
    write(merged(decoder), tmp_path / "out", ExportMarks(causal=False, mask_id=261))
    tokens = torch.tensor([[5, 261, 7, 261, 30]])
    found = open_published(tmp_path / "out").network(tokens)
    torch.testing.assert_close(found, decoder(tokens, attend=EVERYTHING).logits, rtol=1e-4, atol=1e-5)
    assert "lm_head.weight" in load_file(tmp_path / "out" / "model.safetensors")


def test_the_mask_is_a_named_token_or_a_row_that_no_token_has(base, tmp_path):
    checkpoint = open_checkpoint(base)
    assert mask_of(checkpoint, "<|im_start|>") == 1
    with pytest.raises(ConfigError, match="has no control token '<mask>' to be the mask"):
        mask_of(checkpoint, "<mask>")
    assert mask_of(checkpoint) == 261
    assert with_mask(checkpoint, 261).config.vocab == 262
    roomy = weights()
    roomy["model.embed_tokens.weight"] = np.concatenate([roomy["model.embed_tokens.weight"]] * 2)
    wide = open_checkpoint(write_folder(tmp_path / "wide", roomy, vocab_size=522))
    assert mask_of(wide) == 261
    assert with_mask(wide, 261).config.vocab == 522
    with pytest.raises(CheckpointError, match="tiny has 300 tokens and 261 rows"):
        with_mask(checkpoint, 300)
    spec = replace(checkpoint.tokenizer, named={"mask": 7})
    assert mask_of(replace(checkpoint, tokenizer=spec)) == 7


def test_infilling_is_exact_counting(base):
    checkpoint = open_checkpoint(base)
    decoder = with_mask(checkpoint, 261)
    windows = torch.randint(3, 250, (6, 12), generator=torch.Generator().manual_seed(0))
    holes = scattered(6, 12, 0.4)
    assert holes.any(1).all()
    assert not holes[:, 0].any()
    assert torch.equal(holes, scattered(6, 12, 0.4))
    network = AlignedNetwork(decoder, FullPattern(), 1).eval()
    with torch.no_grad():
        raw = network(windows.masked_fill(holes, 261))
    raw[..., 261] = -torch.inf
    right = (raw.argmax(-1) == windows) & holes
    found = infilled(model_of(network, 261, None), windows, holes, rows=4)
    assert found.tokens == int(holes.sum())
    assert found.share == pytest.approx(float(right.sum() / holes.sum()))
    with pytest.raises(ConfigError, match="cannot leave a hole of 12 in windows of 12"):
        middle(6, 12, 12)


@pytest.mark.parametrize(
    ("edits", "message"),
    [
        (["data="], "pass --set data=my.txt"),
        (["data=nowhere.txt"], "cannot read the text nowhere.txt"),
        (["length=18"], "no multiple of the blocks of 4: set length=20"),
        (["hole=15"], "cannot leave a hole of 15 in windows of 16 tokens"),
        (["length=2000"], "windows of 2000 need at least 2000 and 4000"),
        (["mask=<pad>"], "has no control token '<pad>'"),
        (["model=nowhere"], "nowhere"),
        (["family=mdlm"], "family"),
        (["shares=[1.5]"], "less than 1"),
    ],
)
def test_what_cannot_be_is_one_clear_sentence(base, text, edits, message):
    with pytest.raises(MezzotintError, match=message):
        load("smollm2-sdar", [f"model={base}", f"data={text}", *EDITS, *edits])[0].build()
