"""Texts of a run that judges steer, by the command line: judges are taught, heard, and refused."""

import json
import shutil

import pytest

from mezzotint.cli.main import run
from mezzotint.config import override
from mezzotint.recipes.from_scratch import udlm

TEXT = "".join(
    "".join("aeiou"[n * n % 5] * size + " " + "bcd"[(n + k) * n % 3] * size + " " for k in range(16 // size))
    for n in range(300)
    for size in (1, 4)
)
"""Words of one vowel, or of one other letter, in turns; stretches of short ones and of long ones."""
COLUMNS = 16
NETWORK = ["network.width=32", "network.layers=1", "network.heads=2"]


def train(recipe, out, *edits):
    settings = [*NETWORK, "train.max_minutes=null", *edits]
    pairs = [part for edit in settings for part in ("--set", edit)]
    assert run(["train", recipe, "--out", str(out), *pairs]) == 0
    return out


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Models of tokens and of vectors, with judges."""
    home = tmp_path_factory.mktemp("runs")
    (home / "my.txt").write_text(TEXT)
    data = f"data={home / 'my.txt'}"
    edits = (data, "told=length", f"length={COLUMNS}", "train.steps=150", "samples=0")
    for kind in ("udlm", "mdlm"):
        train(f"{kind}-small", home / f"{kind}-told", *edits)
    for kind, judges in (("udlm", ("kinds", "length")), ("diffusion-lm", ("kinds",)), ("sed", ("length",))):
        made = train(f"{kind}-small", home / kind, data, f"length={COLUMNS}", "train.steps=150", "samples=0")
        for what in judges:
            edits = (f"model={made}", data, f"attribute.kind={what}", "train.steps=150", "train.eval_every=150")
            train("judge-small", home / f"{kind}-{what}", *edits)
    return home


def written(capsys, *arguments):
    assert run(["guide", "--json", "--samples", "6", "--steps", "12", *map(str, arguments)]) == 0
    return json.loads(capsys.readouterr().out)["texts"]


def refused(capsys, *arguments):
    """The one line on stderr of a command that ends with 2."""
    assert run(list(map(str, arguments))) == 2
    said = capsys.readouterr()
    assert said.out == ""
    return said.err


def agreement(texts, pattern):
    kinds = ["".join("v" if letter in "aeiou" else "s" if letter == " " else "c" for letter in text) for text in texts]
    return sum(a == b for text in kinds for a, b in zip(text, pattern, strict=False))


@pytest.mark.parametrize(("kind", "strength"), [("udlm", 3), ("diffusion-lm", 1)])
def test_a_pattern_of_kinds_comes_true(kind, strength, home, capsys):
    pattern = "vvvsccsvsccccsvv"
    free = written(capsys, home / kind)
    guided = written(capsys, home / kind, "--want", f"{home / kind}-kinds={pattern}", "--strength", strength)
    assert all(len(text) == COLUMNS for text in guided)
    assert agreement(guided, pattern) > 1.25 * agreement(free, pattern)
    assert agreement(guided, pattern) > 0.6 * len(guided) * COLUMNS
    # a seed says it all
    assert guided == written(capsys, home / kind, "--want", f"{home / kind}-kinds={pattern}", "--strength", strength)


@pytest.mark.parametrize("exact", [[], ["--exact"]])
def test_a_length_in_words_comes_closer(exact, home, capsys):
    wish = f"{home / 'udlm-length'}="
    asked = (home / "udlm", "--strength", 4, *exact)
    few, many = (written(capsys, *asked, "--want", f"{wish}{n}") for n in (1, 8))
    assert sum(len(text.split()) for text in few) < sum(len(text.split()) for text in many)


@pytest.mark.parametrize("kind", ["udlm", "mdlm"])
def test_what_a_network_is_told_comes_true(kind, home, capsys):
    told, words = home / f"{kind}-told", {}
    for number, scale in ((1, 3), (8, 3), (8, 0)):
        texts = written(capsys, told, "--told", number, "--scale", scale)
        words[number, scale] = sum(len(text.split()) for text in texts)
    assert words[1, 3] < words[8, 3]
    # a scale of 0 does not listen: the text is the one that nobody asked for
    assert words[8, 0] == sum(len(text.split()) for text in written(capsys, told, "--told", 1, "--scale", 0))
    assert all(text.startswith("a bb") for text in written(capsys, told, "a bb__ ", "--told", 5))
    # who says nothing gets what was learnt from texts without a label
    assert len(written(capsys, told)) == 6


def test_given_columns_stay_and_the_texts_that_agree_win(home, capsys):
    texts = written(capsys, home / "sed", "a bb__ ", "--scale", "1.5", "--want", f"{home / 'sed-length'}=5")
    assert all(text.startswith("a bb") for text in texts)
    chosen = written(capsys, home / "sed", "a bb__ ", "--scale", "1.5", "--want", f"{home / 'sed-length'}=5", "--agree")
    assert len(chosen) == 1
    assert chosen[0] in texts


def test_a_setting_of_the_sampler_changes_texts_and_nothing_else(home, capsys):
    assert written(capsys, home / "diffusion-lm", "--set", "eta=0") != written(capsys, home / "diffusion-lm")
    assert "would need other weights" in refused(capsys, "guide", home / "diffusion-lm", "--set", "width=8")
    assert "eta" in refused(capsys, "guide", home / "udlm", "--set", "eta=0")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["HOME/nothing"], "there is no model"),
        (["HOME/udlm", "--want", "HOME/udlm-length"], "write it as JUDGE=VALUE"),
        (["HOME/udlm", "--want", "HOME/nothing=3"], "No such file or directory"),
        (["HOME/udlm", "--want", "HOME/udlm=3"], "it holds no judge"),
        (["HOME/udlm", "--want", "HOME/sed-length=3"], "was taught on another model"),
        (["HOME/udlm", "--want", "HOME/udlm-length=many"], "no whole number"),
        (["HOME/udlm", "--want", "HOME/udlm-kinds=vx"], "a pattern has no 'x'"),
        (["HOME/udlm", "--want", f"HOME/udlm-kinds={'v' * 17}"], "does not fit a text of 16 tokens"),
        (["HOME/udlm", "--scale", "2"], "udlm has none"),
        (["HOME/udlm", "--told", "2"], "never told"),
        (["HOME/udlm-told", "--told", "many"], "no whole number"),
        (["HOME/udlm-told", "--scale", "2"], "give both"),
        (["HOME/udlm-told", "--told", "2", "--want", "HOME/udlm-length=3"], "give --want or --told"),
        (["HOME/sed", "--scale", "-1"], "numbers from 0 up"),
        (["HOME/sed", "--strength", "nan"], "numbers from 0 up"),
        (["HOME/sed", "--samples", "0"], "ask for 1 or more"),
        (["HOME/sed", "--steps", "1000000"], "in 1 to 10000"),
        (["HOME/sed", "--agree"], "cannot outvote"),
        (["HOME/sed", "Zoo"], "not in the vocabulary"),
    ],
)
def test_wishes_that_cannot_come_true_are_refused(arguments, sentence, home, capsys):
    assert sentence in refused(capsys, "guide", *[part.replace("HOME", str(home)) for part in arguments])


def test_only_steps_that_can_be_guided_are_told(home, tmp_path, capsys):
    asked = ["--set", f"data={home / 'my.txt'}", "--set", "told=length", "--out", tmp_path / "run"]
    assert "take mdlm or udlm" in refused(capsys, "train", "bd3lm-small", *asked)
    assert "told" in refused(capsys, "train", "mdlm-small", *asked, "--set", "told=kinds")


def test_a_run_that_is_told_something_else_is_another_run(home):
    asked = [f"data={home / 'my.txt'}", f"length={COLUMNS}"]
    edits = ([], ["told=length"], ['told={"kind": "length", "edges": [3, 7]}'])
    assert len({override(udlm(), [*asked, *edit]).build().identity for edit in edits}) == len(edits)


def test_judges_need_a_model_that_can_be_guided(home, tmp_path, capsys):
    data = f"data={home / 'my.txt'}"
    made = train("ar-small", tmp_path / "ar", data, f"length={COLUMNS}", "train.steps=2", "samples=0")
    capsys.readouterr()
    asked = ["train", "judge-small", "--out", tmp_path / "judge", "--set", data]
    assert "ar cannot be guided by judges" in refused(capsys, *asked, "--set", f"model={made}")
    assert "there is no model in" in refused(capsys, *asked, "--set", "model=nowhere")
    assert "needs a model and its text" in refused(capsys, *asked[:4])
    assert "ar cannot be guided" in refused(capsys, "guide", made, "--want", f"{_stolen(home, made)}=3")


def _stolen(home, model):
    """A judge that says it knows the noise of this model."""
    from mezzotint.models.classifier import checksum

    shutil.copytree(home / "udlm-length" / "export", home / "stolen")
    record = json.loads((home / "stolen" / "config.json").read_text())
    record["shape"]["model"] = checksum(model / "export")
    (home / "stolen" / "config.json").write_text(json.dumps(record))
    return home / "stolen"
