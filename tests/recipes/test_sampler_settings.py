"""Samplers and networks that a setting chooses: trained by the recipe, written by the command."""

import json

import pytest
import torch

from mezzotint.batch import Batch
from mezzotint.cli.main import run
from mezzotint.data.characters import Characters
from mezzotint.denoisers.networks.dit import DiT
from mezzotint.denoisers.networks.small_transformer import TransformerConfig
from mezzotint.families import BD3LM, GIDD, MDLM, FlowMatching
from mezzotint.families.base import objective_of
from mezzotint.models.trained import TrainedConfig, TrainedModel
from mezzotint.objectives.discrete_time_bound import DiscreteTimeBound
from mezzotint.rng import Rng

TEXT = "the cat sat on the mat and the dog sat on the log. " * 60
LENGTH = 16


def folder_of(family, to, **network):
    torch.manual_seed(0)
    shape = TransformerConfig(width=32, layers=1, heads=2, **network)
    model = TrainedModel.fresh(TrainedConfig(network=shape, family=family, length=LENGTH), Characters.of(TEXT))
    torch.nn.init.normal_(model.network.head.weight, std=0.5)
    to.mkdir()
    model.save(to)
    return to


def written(capsys, folder, *options):
    """The answer of `mezzotint generate`, and how many passes it took."""
    code = run(["generate", "the ", "--model", str(folder), "--steps", "8", "--json", *options])
    said = capsys.readouterr()
    assert code == 0, said.err
    record = json.loads(said.out)
    assert record["tokens"] == 12
    return record["text"], record["forwards"]


UNIFORM = FlowMatching(source="uniform", sampler="reversal")


@pytest.mark.parametrize(
    ("family", "settings", "passes"),
    [
        (MDLM(), ["sampler=first-hitting"], 12),
        (MDLM(), ["sampler=analytic"], 8),
        (BD3LM(block=4), ["sampler=first-hitting"], 12),
        (UNIFORM, ["sampler=ddim"], 8),
        (UNIFORM, ["gibbs.sweeps=2", "gibbs.columns=3"], 8 + 7 * 2),
        (UNIFORM, ["gibbs.sweeps=1", "gibbs.order=random", "sampler=ddim"], 8 + 7),
        (FlowMatching(source="uniform"), ["gibbs.sweeps=1", "gibbs.order=contested"], 8 + 7),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, list) else None,
)
def test_a_setting_of_the_sampler_changes_how_a_run_writes(family, settings, passes, tmp_path, capsys):
    folder = folder_of(family, tmp_path / "run", timed=isinstance(family, FlowMatching))
    options = [word for setting in settings for word in ("--set", setting)]
    text, forwards = written(capsys, folder, *options)
    assert forwards == passes
    assert written(capsys, folder, *options) == (text, forwards)
    assert written(capsys, folder) != (text, forwards)


def test_self_correction_goes_over_the_finished_text_and_may_change_it(tmp_path, capsys):
    folder = folder_of(GIDD(), tmp_path / "run", timed=True)
    assert written(capsys, folder)[1] == 8
    assert written(capsys, folder, "--set", "corrections=1")[1] == 9
    changed = 0
    for seed in range(6):
        (plain, _), (found, passes) = (
            written(capsys, folder, "--seed", str(seed), *more) for more in ([], ["--set", "corrections=40"])
        )
        assert 9 < passes <= 48
        assert "_" not in found
        changed += found != plain
    assert changed


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (["eta=0"], "eta"),
        (["sampler=euler"], "sampler"),
    ],
)
def test_a_setting_that_a_family_does_not_have_is_named(settings, sentence, tmp_path, capsys):
    folder = folder_of(MDLM(), tmp_path / "run")
    options = [word for setting in settings for word in ("--set", setting)]
    assert run(["generate", "the ", "--model", str(folder), *options]) == 2
    assert sentence in capsys.readouterr().err


def test_masks_have_no_sweeps(tmp_path, capsys):
    folder = folder_of(FlowMatching(), tmp_path / "run", timed=True)
    assert run(["generate", "the ", "--model", str(folder), "--set", "gibbs.sweeps=1"]) == 2
    assert "use source=uniform" in capsys.readouterr().err


def trained(tmp_path, recipe, *edits):
    text = tmp_path / "text.txt"
    text.write_text(TEXT)
    settings = [f"data={text}", "tokens=characters", f"length={LENGTH}", "windows=8", "samples=0", *edits]
    settings += ["train.steps=12", "train.max_minutes=null", "train.eval_every=12"]
    words = [word for edit in settings for word in ("--set", edit)]
    return run(["train", recipe, "--out", str(tmp_path / "run"), *words])


DIT = ["network=dit", "network.width=32", "network.layers=2", "network.heads=2", "network.condition=16"]


@pytest.mark.parametrize(
    ("recipe", "more"),
    [
        ("mdlm-small", []),
        ("bd3lm-small", []),
        ("udlm-small", ["network.timed=true"]),
        ("sedd-absorbing-small", ["network.timed=true"]),
        ("ar-small", []),
    ],
)
def test_a_dit_is_trained_and_writes(recipe, more, tmp_path, capsys):
    assert trained(tmp_path, recipe, *DIT, *more) == 0, capsys.readouterr().err
    model = TrainedModel.load(tmp_path / "run" / "export")
    assert isinstance(model.network, DiT)
    # its last layers start from zero, and are no longer there
    assert model.network.head.weight.abs().max() > 0
    capsys.readouterr()
    written(capsys, tmp_path / "run")


def test_families_that_change_the_ends_of_their_network_refuse_a_dit(tmp_path, capsys):
    assert trained(tmp_path, "edit-flow-small", *DIT) == 2
    assert "network.kind=transformer" in capsys.readouterr().err


def test_a_run_without_the_kind_of_its_network_is_one_of_the_small_transformer(tmp_path):
    folder = folder_of(MDLM(), tmp_path / "run")
    record = json.loads((folder / "config.json").read_text())
    del record["shape"]["network"]["kind"]
    (folder / "config.json").write_text(json.dumps(record))
    assert isinstance(TrainedModel.load(folder).shape.network, TransformerConfig)


def test_the_bound_of_a_chain_is_trained_on_and_nears_that_of_continuous_time_with_more_steps(tmp_path, capsys):
    assert trained(tmp_path, "mdlm-small", "family.weights=bound", "family.steps=4") == 0, capsys.readouterr().err
    model = TrainedModel.load(tmp_path / "run" / "export")
    ids = torch.tensor(model.vocabulary.encode(TEXT).tolist()[: 64 * LENGTH]).view(64, LENGTH)
    batch = Batch(ids, torch.ones_like(ids, dtype=torch.bool))

    def nats(steps):
        objective = objective_of(model.edited([f"steps={steps}"]).family)
        with torch.no_grad():
            return sum(float(objective(model.network, batch, Rng(seed)).total) for seed in range(30)) / 30

    assert isinstance(model.family.objective, DiscreteTimeBound)
    away = [abs(nats(steps) - nats("null")) for steps in (4, 1000)]
    assert away[1] < away[0] / 4
    assert away[1] < 0.02
