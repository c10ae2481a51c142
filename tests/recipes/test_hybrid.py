"""The adapter's recipe, from no answers at all to an adapter that trains on, with a tiny base in a folder."""

import json
from dataclasses import replace

import numpy as np
import pytest
from test_tiny_model import write

from mezzotint.data import prompts
from mezzotint.data.prompts import Prompts
from mezzotint.denoisers.adapter import load_adapter
from mezzotint.errors import ConfigError
from mezzotint.recipes.hybrid import Answers, Hybrid, Size, smollm2_hybrid
from mezzotint.train.distil import Index
from mezzotint.train.draft import frequent
from mezzotint.train.loop import run

TOPICS = Prompts(("rain", "snow", "wind"), ("It rains. " * 20,), ("soup",), (("hello", "why"),))


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    base, answers = (tmp_path_factory.mktemp(name) for name in ("base", "answers"))
    write(base)
    size = Size(taps=(1, 2, 3), block=2, window=20, mixer=32, ids=64)
    train = replace(smollm2_hybrid().train, steps=2, max_minutes=None, eval_every=2)
    made = Hybrid(
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
    index = Index(recipe.answers.folder)
    assert index.tokens >= recipe.answers.tokens
    entry = json.loads((recipe.answers.folder / "asked.jsonl").read_text().splitlines()[0])
    share = len(entry["prompts"]) / entry["end"]
    assert 0.1 < share < 0.6  # half of them, but for those that do not end


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
