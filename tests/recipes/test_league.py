"""The league on a toy language: pieces are kept, figures are there, mistakes are sentences."""

import fcntl
import json
import math
from pathlib import Path

import pytest
import torch

from mezzotint.batch import Batch
from mezzotint.errors import CheckpointError, ConfigError, RequestError, VocabularyError
from mezzotint.evaluate.generative import counted, entropy, judged
from mezzotint.evaluate.infilling import rewritten
from mezzotint.families.base import objective_of
from mezzotint.league.play import FAMILIES, League, play
from mezzotint.league.published_ratios import PUBLISHED, ratios
from mezzotint.league.published_ratios import table as published
from mezzotint.league.standings import averaged, draw, markdown
from mezzotint.models.trained import TrainedModel
from mezzotint.objectives.bits import measure

TINY = ("network.width=32", "network.layers=1", "network.heads=2", "length=16", "rows=8", "train.ema=null")


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    path = tmp_path_factory.mktemp("text") / "my.txt"
    path.write_text("the cat sat on the mat and the dog sat on the log. " * 400)
    return str(path)


@pytest.fixture(scope="module")
def played(text, tmp_path_factory):
    folder = tmp_path_factory.mktemp("league")
    league = League(
        corpus=text, families=("ar", "mdlm", "bd3lm"), steps=60, edits=TINY, texts=8, sample_steps=(2, 16), windows=32
    )
    said = []
    return league, folder, play(league, folder, said.append), said


def test_every_model_is_asked_the_same(played):
    _, _, record, said = played
    assert [model["name"] for model in record["models"]] == ["judge", "ar", "mdlm", "bd3lm"]
    ar, mdlm, bd3lm = record["models"][1:]
    assert ar["exact"]
    assert not mdlm["exact"]
    assert [q["steps"] for q in ar["quality"]] == [16]
    assert [q["steps"] for q in mdlm["quality"]] == [2, 16]
    for model in (ar, mdlm, bd3lm):
        assert model["bits_per_character"] < record["counted_bits_per_character"]["unigram"]
        assert model["standard_error"] > 0
        assert model["tokens"] == 60 * 8 * 16
        assert 0 <= model["infilling"] <= 1
        assert 0 < model["peak_bytes"] < 2e9
        assert all(math.isfinite(q["judge_bits"]) and q["entropy_bits"] > 0 for q in model["quality"])
    assert any("minutes left" in line for line in said)


def test_what_is_done_is_not_done_again_and_what_changed_is(played):
    league, folder, record, _ = played
    said = []
    assert play(league, folder, said.append) == record
    assert said == []
    (folder / "mdlm-0" / "result.json").unlink()
    again = play(league, folder, said.append)
    assert len(said) == 2
    assert "mdlm" in said[0]
    assert again["models"][2]["bits_per_character"] == record["models"][2]["bits_per_character"]
    # nothing was trained again, so there is no rate to tell
    assert again["models"][2]["tokens_per_cpu_second"] is None
    assert "| mdlm | ≤ " in markdown(again)


def test_the_table_marks_bounds_and_averages_seeds(played, tmp_path):
    record = json.loads(json.dumps(played[2]))
    twin = {**record["models"][2], "seed": 1}
    twin["bits_per_character"] += 0.5
    record["models"].append(twin)
    mdlm = next(entry for entry in averaged(record) if entry["name"] == "mdlm")
    assert mdlm["seeds"] == 2
    assert mdlm["bits_per_character"] == pytest.approx(record["models"][2]["bits_per_character"] + 0.25)
    assert mdlm["standard_error"] >= 0.24
    table = markdown(record)
    assert "| mdlm | ≤ " in table
    assert "| ar | ≤ " not in table
    assert "judge" not in table.split("\n", 1)[1]
    with pytest.raises(ConfigError, match=r"\.svg or \.png"):
        draw(record, tmp_path / "x.gif")


def test_published_ratios_stand_beside_ours(played):
    table = markdown(played[2])
    row = next(line for line in table.splitlines() if line.startswith("| bd3lm"))
    assert row.split("|")[4].strip() == ratios("bd3lm")
    assert ratios("ar") == ""
    assert published().count("\n| ") == sum(map(len, PUBLISHED.values()))
    assert all(1 < pair.ratio < 1.4 for found in PUBLISHED.values() for pair in found)


def test_models_come_back_from_disk_and_say_what_is_wrong(played, tmp_path):
    folder = played[1] / "mdlm-0" / "run" / "export"
    model = TrainedModel.load(folder)
    batch = Batch(torch.zeros(2, 16, dtype=torch.long), torch.ones(2, 16, dtype=torch.bool))
    one = measure(model.network, objective_of(model.family), [batch])
    two = measure(TrainedModel.load(folder).network, objective_of(model.family), [batch])
    assert one == two
    record = json.loads((folder / "config.json").read_text())
    record["shape"]["network"]["width"] = 64
    (tmp_path / "config.json").write_text(json.dumps(record))
    (tmp_path / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes())
    with pytest.raises(CheckpointError, match="cannot read the model"):
        TrainedModel.load(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"no")
    with pytest.raises(CheckpointError, match="cannot read the model"):
        TrainedModel.load(tmp_path)


def test_prompts_are_continued_and_holes_are_filled(played):
    model = TrainedModel.load(played[1] / "mdlm-0" / "run" / "export")
    columns = model.prompt("the _at", None)
    assert columns.count(None) == 1
    *_, canvas = model.decode(model.canvas([columns]), 4)
    text = model.vocabulary.decode(canvas.tokens[0].tolist())
    assert (text[:4], text[5:]) == ("the ", "at")
    assert len(model.prompt("the", None)) == 16
    assert model.prompt("the", 2).count(None) == 2
    blocky = TrainedModel.load(played[1] / "bd3lm-0" / "run" / "export")
    assert len(blocky.prompt("the", 2)) % 8 == 0
    with pytest.raises(RequestError, match="at most 16"):
        model.prompt("the cat", 20)
    with pytest.raises(RequestError, match="nothing to write"):
        model.prompt("the cat", 0)
    with pytest.raises(VocabularyError, match="'Z'"):
        model.prompt("Z", None)


def test_infilling_and_judging_see_what_they_should(played):
    model = TrainedModel.load(played[1] / "mdlm-0" / "run" / "export")
    tokens = torch.from_numpy(model.vocabulary.encode("the cat sat on t"))[None].repeat(8, 1)
    batch = Batch(tokens, torch.ones_like(tokens, dtype=torch.bool))
    found = rewritten(model, [batch], 4, 4)
    assert 0 <= found.share <= 1
    assert found.tokens == 32
    judge = TrainedModel.load(played[1] / "judge-1000003" / "run" / "export")
    noise = torch.randint(0, model.vocabulary.mask_id, (8, 16), generator=torch.Generator().manual_seed(0))
    assert judged(judge, tokens) < judged(judge, noise)
    assert entropy(torch.tensor([[0, 1, 2, 3], [5, 5, 5, 5]])) == 1.0


def test_counting_tokens_and_pairs():
    import numpy as np

    found = counted(np.array([0, 1] * 500), np.array([0, 1] * 50), 3)
    assert found["unigram"] == pytest.approx(1.0, abs=0.01)
    assert found["bigram"] < 0.02


def test_leagues_that_cannot_be_are_refused(text, tmp_path):
    with pytest.raises(ConfigError, match=r"no family nope: use ar, mdlm"):
        play(League(corpus=text, families=("nope",)), tmp_path, print)
    with pytest.raises(ConfigError, match="no family given"):
        play(League(corpus=text, families=()), tmp_path, print)
    with pytest.raises(ConfigError, match="no such file"):
        play(League(corpus="nothing"), tmp_path, print)
    assert set(League().families) == set(FAMILIES)


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ({"seeds": ()}, "needs seeds from 0 up"),
        ({"seeds": (-1,)}, "needs seeds from 0 up"),
        ({"seeds": (0, 0)}, "a seed is given twice in 0,0"),
        ({"families": ("ar", "ar")}, "a family is given twice"),
        ({"edits": ("length=12",)}, "set length=16"),
    ],
)
def test_leagues_are_refused_before_anything_is_trained(asked, sentence, text, tmp_path):
    with pytest.raises(ConfigError, match=sentence):
        play(League(corpus=text, **asked), tmp_path / "new", print)
    assert not (tmp_path / "new").exists()


def test_a_text_too_short_to_measure_on_is_refused_before_anything_is_trained(tmp_path):
    (tmp_path / "short.txt").write_text("a cat sat on the mat. " * 200)
    with pytest.raises(ConfigError, match=r"holds out .* measures 1024 or more"):
        play(League(corpus=str(tmp_path / "short.txt"), families=("ar",), steps=2), tmp_path / "out", print)
    assert not list((tmp_path / "out").iterdir())


def test_a_folder_that_cannot_be_is_refused(text):
    with pytest.raises(ConfigError, match="choose another folder"):
        play(League(corpus=text, families=("ar",)), Path(text), print)


def test_two_leagues_never_work_in_one_folder(played, text):
    league, folder, record, _ = played
    with (folder / ".lock").open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(ConfigError, match="another league is at work"):
            play(league, folder, print)
    assert play(league, folder, print)["corpus"] == record["corpus"]


def test_other_settings_begin_anew_and_broken_results_are_made_again(text, tmp_path):
    few = {"corpus": text, "families": ("ar",), "texts": 2, "sample_steps": (4, 64), "windows": 16}
    first = play(League(steps=2, edits=TINY, **few), tmp_path, print)
    assert [q["steps"] for q in first["models"][1]["quality"]] == [16]
    (tmp_path / "ar-0" / "result.json").write_text("[1]")
    assert play(League(steps=2, edits=TINY, **few), tmp_path, print)["models"][1][
        "bits_per_character"
    ] == pytest.approx(first["models"][1]["bits_per_character"])
    changed = League(steps=3, edits=(*TINY, "train.optim.lr=0.001"), **few)
    there = play(changed, tmp_path, print)["models"]
    alone = play(changed, tmp_path / "alone", print)["models"]
    assert [m["bits_per_character"] for m in there] == [m["bits_per_character"] for m in alone]


def test_damaged_models_and_long_prompts_are_sentences(played, tmp_path):
    folder = played[1] / "mdlm-0" / "run" / "export"
    record = json.loads((folder / "config.json").read_text())
    for key, value, sentence in (
        ("vocabulary", 3, "cannot read the model"),
        ("shape", None, "cannot read the model"),
    ):
        (tmp_path / "config.json").write_text(json.dumps({**record, key: value}))
        with pytest.raises(CheckpointError, match=sentence):
            TrainedModel.load(tmp_path)
    del record["shape"]
    (tmp_path / "config.json").write_text(json.dumps(record))
    with pytest.raises(CheckpointError, match="lacks 'shape'"):
        TrainedModel.load(tmp_path)
    model = TrainedModel.load(folder)
    with pytest.raises(RequestError, match="has 30 tokens and this model reads at most 16: shorten it"):
        model.prompt("the cat " * 3 + "the ca", None)
    with pytest.raises(RequestError, match="fills all 16 columns"):
        model.prompt("the cat sat on t", None)


def test_families_on_vectors_and_of_any_length_stand_in_the_same_table(text, tmp_path):
    families = ("ar", "sed", "duo", "flexmdm")
    league = League(
        corpus=text, families=families, steps=40, edits=TINY, texts=4, sample_steps=(4,), windows=16, hole=4
    )
    record = play(league, tmp_path, print)
    _, sed, duo, flexmdm = record["models"][1:]
    assert sed["bits_per_character"] > 0
    assert 0 <= sed["infilling"] <= 1
    assert duo["recipe"]["family"]["curriculum"] == 20
    assert flexmdm["quality"][0]["tokens_per_text"] <= 16
    assert all(model["source"].keys() >= {"torch"} for model in record["models"])
    rows = markdown(record).splitlines()
    assert next(row for row in rows if row.startswith("| ar")).split("|")[3] == " 1.00 "
    assert next(row for row in rows if row.startswith("| sed")).startswith("| sed | ≤ ")
    bits = [entry["bits_per_character"] for entry in averaged(record)]
    assert bits == sorted(bits)
    pytest.importorskip("matplotlib")
    draw(record, tmp_path / "x.svg")
    assert (tmp_path / "x.svg").read_text().count("sed") > 0


def test_empty_texts_have_no_entropy():
    tokens, there = torch.tensor([[3, 3], [0, 1]]), torch.tensor([[False, False], [True, True]])
    assert entropy(tokens, there) == 0.5
