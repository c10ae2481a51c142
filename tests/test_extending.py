"""docs/extending.md does what it says: its files are written out and its commands run; and what guards that door."""

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from pydantic import Field

from mezzotint.config import config, from_dict, from_json, override, to_dict, to_json
from mezzotint.decode.methods.registry import method
from mezzotint.denoisers.networks.small_transformer import TransformerConfig
from mezzotint.errors import ConfigError, PluginError
from mezzotint.extending import Absorbing, AnyFamily, FamilyRecord, Preset, Uniform, mdlm
from mezzotint.families import AR, BD3LM, MDLM, LLaDA
from mezzotint.models.trained import TrainedConfig, TrainedModel
from mezzotint.recipes.explain import explained
from mezzotint.recipes.from_scratch import small
from mezzotint.schedules import Cosine, Exponential, Linear, Schedule
from mezzotint.testing import check_family, check_process, check_schedule

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
FILES = dict(re.findall(r'^```\w+ title="([\w.]+)"\n(.*?)^```', PAGE, flags=re.MULTILINE | re.DOTALL))
COMMANDS = re.findall(r"^```bash\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL)
MORE = {
    "focal.py": "\nfrom mezzotint.extending import Preset\n\nquick = Preset(block=4)\n",
    "pyproject.toml": '\n[project.entry-points."mezzotint.methods"]\nfocal-quick = "focal:quick"\n',
}
"""A preset, which the page only speaks of."""
TEXT = "".join(f"the cat sat on the mat and the dog ran to house {n} .\n" for n in range(300))


@config
class Straight:
    """A schedule of this module."""

    slope: float = Field(default=1.0, gt=0, le=1)

    def alpha(self, t):
        return 1 - self.slope * t

    def dalpha(self, t):
        return torch.full_like(t, -self.slope)

    def time(self, alpha):
        return (1 - alpha) / self.slope


@config
class Plain:
    """A family of this module."""

    schedule: Schedule = Straight()

    def build(self, vocab, mask_id):
        return mdlm(Absorbing(vocab, mask_id, self.schedule))


@config
class Half(Plain):
    """Its bound forgets half of the text."""

    def build(self, vocab, mask_id):
        family = super().build(vocab, mask_id)
        return replace(family, bound=lambda network, batch, rng: _halved(family.objective(network, batch, rng)))


def _halved(loss):
    return replace(loss, per_token=loss.per_token / 2)


class Unwritten:
    """No record: nothing says what its fields are."""

    def build(self, vocab, mask_id):
        raise NotImplementedError


fast = Preset(block=4)
HERE = Plain.__module__


def shape(family):
    return TrainedConfig(network=TransformerConfig(width=16, layers=1, heads=2), family=family, length=16)


def run(command, folder, *more, fails=False):
    """What a command prints in `folder`, with this repository and `more` on the path of imports."""
    path = os.pathsep.join(map(str, [*more, ROOT]))
    words = f'python() {{ "{sys.executable}" "$@"; }}\nset -e\n{command}'
    env = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(["bash", "-c", words], cwd=folder, env=env, capture_output=True, text=True, timeout=600)
    assert (done.returncode != 0) == fails, done.stderr
    return done.stderr if fails else done.stdout


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """The files of the page, and a text."""
    folder = tmp_path_factory.mktemp("focal")
    for name, source in FILES.items():
        (folder / name).write_text(source, encoding="utf-8")
    (folder / "my.txt").write_text(TEXT, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def trained(written):
    """The same after the page's commands."""
    (commands,) = COMMANDS
    run(commands, written)
    return written


@pytest.fixture(scope="module")
def installed(written, tmp_path_factory):
    """Where the page's package is installed."""
    target = tmp_path_factory.mktemp("site")
    source = tmp_path_factory.mktemp("source")
    for name in ("focal.py", "pyproject.toml"):
        (source / name).write_text(FILES[name] + MORE[name], encoding="utf-8")
    run(f'python -m pip install -q --no-build-isolation --no-deps --no-index --target "{target}" .', source)
    return target


def test_a_schedule_and_a_family_take_less_than_sixty_lines():
    assert len(FILES["focal.py"].splitlines()) < 60


def test_the_checks_of_the_page_pass(written):
    run("python test_focal.py", written)


def test_its_commands_leave_runs_that_name_the_family(trained):
    tiny = json.loads((trained / "runs/tiny/run.json").read_text())
    assert tiny["recipe"] == "focal:tiny"
    assert tiny["config"]["family"]["kind"] == "focal:Focal"
    assert tiny["config"]["family"]["schedule"]["kind"] == "focal:Sigmoid"
    assert len(tiny["sessions"]) == 2
    other = json.loads((trained / "runs/other/run.json").read_text())
    assert (other["recipe"], other["config"]["family"]["gamma"]) == ("mdlm-small", 1.0)
    assert "--import focal generate" in (trained / "runs/tiny/export/README.md").read_text()


def test_an_object_passed_from_python_trains(written):
    found = run("python run_focal.py", written)
    assert 0 < float(found) < 8


@pytest.mark.parametrize("command", ["generate x --model runs/tiny", "train runs/tiny --resume"])
def test_a_run_is_not_opened_before_its_module_is_imported(trained, command):
    said = " ".join(run(f"python -m mezzotint {command}", trained, fails=True).split())
    assert "pass" not in said
    assert "mezzotint --import focal" in said


def test_an_installed_package_is_known_by_name(installed, tmp_path):
    (tmp_path / "my.txt").write_text(TEXT, encoding="utf-8")
    assert "focal-tiny" in run("python -m mezzotint recipes", tmp_path, installed)
    assert "focal-quick" in run("python -m mezzotint models presets", tmp_path, installed)
    # neither folder is the one that the module lies in
    run("python -m mezzotint train focal-tiny --set data=my.txt --set train.steps=2", tmp_path, installed)
    family = json.loads((tmp_path / "runs/focal-tiny/run.json").read_text())["config"]["family"]
    assert (family["kind"], family["package"]) == ("focal", "focal-diffusion")
    assert (family["schedule"]["kind"], family["gamma"]) == ("sigmoid", 2.0)
    assert run('python -m mezzotint generate "the " --model runs/focal-tiny', tmp_path, installed).startswith("the ")
    for command in ('generate "the " --model runs/focal-tiny', "train runs/focal-tiny --resume"):
        said = run(f"python -m mezzotint {command}", tmp_path, fails=True)
        assert "Traceback" not in said
        assert "focal" in said
    assert "'focal-diffusion'" in run("python -m mezzotint generate x --model runs/focal-tiny", tmp_path, fails=True)


def test_records_of_others_survive_the_disk():
    cfg = shape(Plain(schedule=Straight(slope=0.5)))
    assert from_json(TrainedConfig, to_json(cfg)) == cfg
    assert to_dict(cfg)["family"] == {"kind": f"{HERE}:Plain", "schedule": {"kind": f"{HERE}:Straight", "slope": 0.5}}
    assert from_json(TrainedConfig, to_json(shape(Half()))).family == Half()
    assert f'kind: "{HERE}:Plain"' in explained(small(Plain()))


def test_edits_choose_a_record_of_others_and_its_fields_follow():
    found = override(shape(MDLM()), [f"family={HERE}:Plain", f"family.schedule={HERE}:Straight"])
    assert found.family == Plain()
    assert override(found, ["family.schedule.slope=0.25"]).family.schedule == Straight(slope=0.25)
    assert override(found, ["family.schedule=cosine"]).family == Plain(schedule=Cosine())
    with pytest.raises(ConfigError, match=r"family.schedule.slope: Input should be greater than 0"):
        override(found, ["family.schedule.slope=-1"])


def test_a_file_imports_nothing():
    values = {**to_dict(shape(MDLM())), "family": {"kind": "antigravity:Plain"}}
    with pytest.raises(PluginError, match="import antigravity first"):
        from_dict(TrainedConfig, values)
    assert "antigravity" not in sys.modules
    with pytest.raises(PluginError, match="'plain-lm', which is not installed"):
        from_dict(TrainedConfig, {**values, "family": {"kind": "plain", "package": "plain-lm"}})


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        ("family=no_such_module:Plain", "no module no_such_module"),
        ("family=json:JSONDecoder", "has to be a class under"),
        ("family=json:Plain", "has no family Plain"),
        ("family=json.decoder:__builtins__.eval", "has no family"),
        (f"family={HERE}:Straight", "it has no build"),
        (f"family.schedule={HERE}:Plain", "it has no alpha"),
        ("family=../run:Plain", "write module:attribute"),
    ],
)
def test_what_is_no_family_is_refused(edit, said):
    with pytest.raises(PluginError, match=re.escape(said)):
        override(shape(MDLM()), [edit])


def test_a_misspelt_kind_still_names_its_field():
    with pytest.raises(ConfigError, match=r"family.mdlm.schedule: Input tag 'cosin'"):
        override(shape(MDLM()), ["family.schedule=cosin"])


def test_objects_that_no_file_can_name_are_refused():
    @config
    class Local(Plain):
        pass

    with pytest.raises(PluginError, match="inside a function"):
        shape(Local())
    with pytest.raises(PluginError, match=r"put mezzotint\.extending\.config"):
        shape(Unwritten())


def test_cards_of_this_package_stay_where_they_belong():
    with pytest.raises(ValueError, match="does not match any of the expected tags"):
        shape(LLaDA())


def test_a_decoding_method_is_found_where_it_was_imported():
    assert method(f"{HERE}:fast") is fast
    assert method(f"{HERE}:Preset") == Preset()
    with pytest.raises(PluginError, match="no decoding method"):
        method(f"{HERE}:Plain")
    with pytest.raises(PluginError, match="import antigravity first"):
        method("antigravity:fast")
    with pytest.raises(ConfigError, match="did you mean llada-fast"):
        method("llada-fasd")


def test_the_types_that_others_write_against_are_protocols():
    assert isinstance(Plain(), FamilyRecord)
    assert not isinstance(Straight(), FamilyRecord)
    assert AnyFamily.__origin__ is FamilyRecord


@pytest.mark.parametrize("schedule", [Linear(), Cosine(power=2), Exponential(), Straight()], ids=repr)
def test_good_schedules_pass_the_check(schedule):
    check_schedule(schedule)


@config
class Steep(Straight):
    """Its derivative belongs to another."""

    def dalpha(self, t):
        return torch.full_like(t, -2.0)


@config
class Lost(Straight):
    """Its inverse goes the wrong way."""

    def time(self, alpha):
        return alpha


@pytest.mark.parametrize(
    ("schedule", "said"),
    [(Steep(), "not the derivative"), (Lost(), "not the inverse"), (Straight(slope=0.5), r"alpha\(1\) is 0.5")],
)
def test_bad_schedules_do_not(schedule, said):
    with pytest.raises(AssertionError, match=said):
        check_schedule(schedule)


class Hasty(Absorbing):
    """Reveals too much in every step."""

    def posterior(self, p0, x_t, a_t, a_s):
        return super().posterior(p0, x_t, a_t, (1 + a_s) / 2)


def test_processes_are_held_to_their_forward_process():
    check_process(Absorbing(5, 4, Straight()), mask_id=4)
    check_process(Uniform(5, Cosine()))
    with pytest.raises(AssertionError, match="away from noised"):
        check_process(Hasty(5, 4, Linear()), mask_id=4)


@pytest.mark.parametrize("family", [AR(), BD3LM(block=8), Plain()], ids=lambda family: type(family).__name__)
def test_good_families_pass_the_check(family):
    check_family(family, network=TransformerConfig(width=16, layers=1, heads=2))


def test_a_bound_below_the_entropy_is_caught():
    with pytest.raises(AssertionError, match="the bound is"):
        check_family(Half())


def test_a_model_of_an_imported_family_is_saved_and_loaded(tmp_path):
    from mezzotint.data.characters import Characters

    model = TrainedModel.fresh(shape(Plain()), Characters(tuple("abc")))
    model.save(tmp_path)
    assert TrainedModel.load(tmp_path).shape == model.shape
    record = (tmp_path / "config.json").read_text().replace(f"{HERE}:Plain", "antigravity:Plain")
    (tmp_path / "config.json").write_text(record)
    with pytest.raises(PluginError, match="import antigravity first"):
        TrainedModel.load(tmp_path)
