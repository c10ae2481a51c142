"""The adapter's recipe, from no answers at all to an adapter that trains on, with a tiny base in a folder."""

import json
from dataclasses import replace

import numpy as np
import pytest
from test_tiny_model import SETTINGS, write

from mezzotint.checkpoints import open_checkpoint
from mezzotint.data import prompts
from mezzotint.data.prompts import Prompts
from mezzotint.data.tokenizer import Tokenizer
from mezzotint.denoisers.hybrid.adapter_file import load_adapter
from mezzotint.errors import ConfigError, RequestError
from mezzotint.recipes.hybrid_drafter import Answers, HybridDrafter, Size, smollm2_hybrid
from mezzotint.train.drafter.answers import Index
from mezzotint.train.drafter.batches import frequent
from mezzotint.train.loop import run

TOPICS = Prompts(("rain", "snow", "wind"), ("It rains. " * 20,), ("soup",), (("hello", "why"),))


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    base, answers = (tmp_path_factory.mktemp(name) for name in ("base", "answers"))
    write(base, max_position_embeddings=180)  # fewer than a long prompt would take
    size = Size(taps=(1, 2, 3), block=2, window=20, mixer=32, ids=64)
    train = replace(smollm2_hybrid().train, steps=2, max_minutes=None, eval_every=2)
    made = HybridDrafter(
        base=str(base), answers=Answers(folder=answers, tokens=20_001, threads=1, asked=0.5), size=size, train=train
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prompts, "load", lambda folder, seed: replace(TOPICS, seed=seed))
        made.build()
    return made


@pytest.fixture(scope="module")
def adapter(recipe, tmp_path_factory):
    out = tmp_path_factory.mktemp("run")
    task = recipe.build()  # the answers are there: no prompt source is opened
    run(task, recipe.train, out)
    (found,) = (out / "export").iterdir()
    return found


def test_answers_begin_with_prompts_of_both_kinds(recipe):
    folder = recipe.answers.folder
    index = Index(folder)
    assert index.tokens >= recipe.answers.tokens
    tokenizer = Tokenizer.from_spec(open_checkpoint(recipe.base).tokenizer)
    own = {}
    for line in (folder / "asked.jsonl").read_text().splitlines():
        own |= {int(number): prompt for number, prompt in json.loads(line)["prompts"].items()}
    tokens = np.fromfile(folder / "tokens.bin", np.int32)
    kinds = []
    for line in (folder / "index.jsonl").read_text().splitlines():
        entry = json.loads(line)
        kinds.append(bool(prompt := own.get(entry["number"])))
        wanted = prompt or TOPICS.conversation(entry["number"])[0]
        begun = tokenizer.chat([{"role": "user", "content": wanted}])
        assert tokens[entry["start"] :][: len(begun)].tolist() == begun
    assert 0.05 < np.mean(kinds) < 0.6  # half of them, but for those that do not end


def test_a_base_that_cannot_ask_is_refused(recipe, tmp_path, monkeypatch):
    template = {**SETTINGS, "chat_template": "{% for m in messages %}{{ m.content }}{% endfor %}"}
    (write(tmp_path / "base") / "tokenizer_config.json").write_text(json.dumps(template))
    changed = replace(recipe, base=str(tmp_path / "base"), answers=replace(recipe.answers, folder=tmp_path / "answers"))
    with pytest.raises(ConfigError, match=r"set answers\.asked=0"):
        changed.build()
    (tmp_path / "base" / "tokenizer_config.json").write_text(json.dumps({"eos_token": "<|im_end|>"}))
    with pytest.raises(RequestError, match="no chat template"):
        changed.build()


def test_an_adapter_keeps_its_ids_or_renews_them(recipe, adapter):
    _, arrays, _ = load_adapter(adapter)
    counted = frequent(recipe.answers.folder, 64, 264, ()).numpy()
    assert len(arrays["ids"]) == 64
    kept = replace(recipe, start=adapter, size=replace(recipe.size, ids=32)).build().network
    np.testing.assert_array_equal(kept.ids, arrays["ids"])
    renewed = replace(recipe, start=adapter, size=replace(recipe.size, ids=32), renew_ids=True).build().network
    assert len(renewed.ids) == 32
    assert set(renewed.ids.tolist()) < set(arrays["ids"].tolist()) | set(counted.tolist())
    np.testing.assert_array_equal(renewed.head, renewed.embedding[renewed.ids])
    np.testing.assert_array_equal(renewed.fuse_taps.weight.detach(), kept.fuse_taps.weight.detach())


def test_an_adapter_that_reads_elsewhere_is_refused(recipe, adapter):
    with pytest.raises(ConfigError, match="reads layers"):
        replace(recipe, start=adapter, size=replace(recipe.size, taps=(1, 2))).build()
