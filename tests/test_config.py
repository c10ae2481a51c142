"""Configuration is data: complete, frozen, edited by path, and refused with every problem named."""

from dataclasses import FrozenInstanceError
from typing import Annotated

import pytest
from pydantic import Field

from mezzotint.config import config, from_json, load_run, override, save_run, to_dict, to_json
from mezzotint.errors import ConfigError
from mezzotint.schedules import Cosine, Linear, Schedule


@config
class Inner:
    lr: Annotated[float, Field(gt=0)] = 1e-3
    betas: tuple[float, float] = (0.9, 0.99)


@config
class Outer:
    steps: int = 10
    limit: float | None = None
    schedule: Schedule = Linear()
    inner: Inner = Inner()


def test_edits_reach_nested_fields_by_type():
    edited = override(Outer(), ["inner.lr=3e-4", "steps=25", "inner.betas=[0.8, 0.95]", "limit=2"])
    assert edited == Outer(steps=25, limit=2.0, inner=Inner(lr=3e-4, betas=(0.8, 0.95)))
    assert override(edited, ["limit=null"]).limit is None


def test_a_bare_name_chooses_a_member_of_a_union_and_its_fields_follow():
    assert override(Outer(), ["schedule=cosine"]).schedule == Cosine()
    assert override(Outer(), ["schedule=cosine", "schedule.eps=0.01"]).schedule == Cosine(eps=0.01)
    assert override(Outer(schedule=Linear(eps=0.05)), ["schedule.kind=cosine"]).schedule == Cosine()


def test_every_problem_is_named_by_its_path():
    with pytest.raises(ConfigError) as caught:
        override(Outer(), ["inner.lr=-1", "schedule.epps=1", "steps=many"])
    message = str(caught.value)
    assert "inner.lr: Input should be greater than 0" in message
    assert "schedule.linear.epps: Unexpected keyword argument" in message
    assert "steps: Input should be a valid integer" in message


@pytest.mark.parametrize("edit", ["steps", "=3", "steps.more=1", "steps = "])
def test_unreadable_edits_are_refused(edit):
    with pytest.raises(ConfigError):
        override(Outer(), [edit])


def test_records_are_frozen_and_survive_the_disk(tmp_path):
    cfg = Outer(schedule=Cosine(eps=0.02))
    with pytest.raises(FrozenInstanceError):
        cfg.steps = 3
    assert from_json(Outer, to_json(cfg)) == cfg
    save_run(tmp_path / "run.json", cfg, recipe="toy")
    record = load_run(tmp_path / "run.json")
    assert record["recipe"] == "toy"
    assert record["config"] == to_dict(cfg)
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]


def test_a_missing_or_foreign_record_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="cannot read"):
        load_run(tmp_path / "none.json")
    (tmp_path / "other.json").write_text("[1]")
    with pytest.raises(ConfigError, match="not a run record"):
        load_run(tmp_path / "other.json")
