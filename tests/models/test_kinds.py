"""Every kind of model through every verb: each works, or is refused by name."""

import json
import subprocess
import sys

import pytest
from kinds import CAUSAL, KINDS

import mezzotint
from mezzotint.cli.main import run
from mezzotint.engine.events import Finished, Settled, Started
from mezzotint.errors import ConfigError

WORDS = "word7 word8"
TEXT = {"mdlm run": "the cat", "bd3lm run": "the ", "udlm run": "the cat", "sed run": "the cat", "ar run": "the cat"}
TEXT["edit-flow run"] = "the cat"
HOLES = {name: "the _at sat" if "run" in name else "word7 ___ word8 word9" for name in KINDS}
FILLS = [name for name in KINDS if name not in (*CAUSAL, "idlm")]
CHATS = ("hybrid", "causal folder", "peft adapter", "exported dream")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Folder or file of a kind, made once."""
    root, found = tmp_path_factory.mktemp("kinds"), {}

    def of(name):
        if name not in found:
            found[name] = KINDS[name](root / name.replace(" ", "-"))
        return found[name]

    return of


@pytest.fixture(scope="module")
def opened(made):
    models = {}

    def of(name):
        if name not in models:
            models[name] = mezzotint.load(made(name), threads=1)
        return models[name]

    return of


def prompt(name):
    return TEXT.get(name, WORDS)


def options(name):
    return {} if "run" in name else {"max_new_tokens": 8}


@pytest.mark.parametrize("name", KINDS)
def test_it_says_what_it_is(name, opened):
    info = opened(name).info
    assert info.context > 0
    assert info.parameters > 0
    assert info.memory_bytes > 0
    assert info.fills == (name in FILLS)
    assert info.modes or info.presets or info.kind == "trained"
    assert info.name in repr(opened(name))
    assert json.loads(json.dumps(info.to_dict()))["family"] == info.family


@pytest.mark.parametrize("name", KINDS)
def test_it_generates_the_same_text_for_the_same_seed(name, opened):
    model = opened(name)
    first, again = (model.generate(prompt(name), seed=5, **options(name)) for _ in range(2))
    assert first.text == again.text
    assert first.token_ids == again.token_ids
    assert first.tokens > 0 or name == "edit-flow run"  # which may insert nothing
    assert first.seconds > 0
    assert first.model == model.name
    assert (first.full_text != first.text) == (name not in ("hybrid", "causal folder", "peft adapter"))


@pytest.mark.parametrize("name", KINDS)
def test_its_stream_tells_the_answer(name, opened):
    model = opened(name)
    events = list(model.stream(prompt(name), seed=5, **options(name)))
    answer = model.generate(prompt(name), seed=5, **options(name))
    assert isinstance(events[0], Started)
    assert isinstance(events[-1], Finished)
    text = "".join(event.text for event in events if isinstance(event, Settled | Finished))
    assert text == answer.text
    assert model.engine.taken == 0


@pytest.mark.parametrize("name", KINDS)
def test_several_prompts_are_written_as_each_alone(name, opened):
    model = opened(name)
    several = model.generate([prompt(name), prompt(name)], seed=3, **options(name))
    alone = [model.generate(prompt(name), seed=seed, **options(name)) for seed in (3, 4)]
    assert [answer.token_ids for answer in several] == [answer.token_ids for answer in alone]


@pytest.mark.parametrize("name", KINDS)
def test_a_stream_may_be_dropped(name, opened):
    model = opened(name)
    stream = model.stream(prompt(name), **options(name))
    next(stream)
    del stream
    assert model.engine.taken == 0
    assert model.generate(prompt(name), **options(name)).finish_reason in ("stop", "length")


@pytest.mark.parametrize("name", KINDS)
def test_it_fills_holes_or_says_why_not(name, opened):
    model = opened(name)
    if name not in FILLS:
        with pytest.raises(ConfigError, match="cannot fill holes"):
            model.fill(HOLES[name])
        return
    before, after = HOLES[name].split("_")[0], HOLES[name].rsplit("_", 1)[1]
    answer = model.fill(HOLES[name], seed=1)
    assert answer.text.startswith(before.rstrip(" "))
    assert answer.text.endswith(after)
    assert "_" not in answer.text
    assert answer.tokens >= (name != "edit-flow run")
    with pytest.raises(ConfigError, match="no hole"):
        model.fill(WORDS if "run" not in name else "the cat")


@pytest.mark.parametrize("name", KINDS)
def test_it_bounds_a_text_or_says_why_not(name, opened):
    model = opened(name)
    text = "the cat sat " if "run" in name else "word7 word8 word9 word10"
    bound = model.bound(text, draws=4, seed=1)
    assert bound.nats > 0
    assert bound.tokens > 0
    assert bound == model.bound(text, draws=4, seed=1)
    assert bound.exact == (name in (*CAUSAL, "idlm", "ar run"))
    assert model.score(text, draws=4, seed=1) == -bound.nats


@pytest.mark.parametrize("name", KINDS)
def test_it_chats_or_says_why_not(name, opened):
    model, messages = opened(name), [{"role": "user", "content": prompt(name)}]
    if name in CHATS:
        assert model.generate(messages, max_new_tokens=4).tokens > 0
    else:
        with pytest.raises(ConfigError, match="chat"):
            model.generate(messages)


@pytest.mark.parametrize("name", KINDS)
def test_options_that_mean_nothing_to_it_are_refused_by_name(name, opened):
    model = opened(name)
    with pytest.raises(ConfigError, match="did you mean temperature"):
        model.generate(prompt(name), temperatur=1)
    foreign = {"preset": "llada-ref"} if name in CAUSAL else {"mode": "ar"}
    with pytest.raises(ConfigError, match=next(iter(foreign))):
        model.generate(prompt(name), **foreign)


@pytest.mark.parametrize("name", KINDS)
def test_the_command_line_agrees(name, made, opened, capsys):
    """The same text as in Python, from the same reference."""
    extra = [] if "run" in name else ["--max-new-tokens", "8"]
    arguments = ["generate", prompt(name), "--model", str(made(name)), "--seed", "5", "--threads", "1", "--json"]
    assert run([*arguments, *extra]) == 0
    facts = json.loads(capsys.readouterr().out)
    answer = opened(name).generate(prompt(name), seed=5, **options(name))
    assert facts["text"] == answer.text
    assert set(facts) == {*answer.to_dict(), "load_seconds", "seed"}
    if name in FILLS:
        assert run(["generate", HOLES[name], "--model", str(made(name)), "--seed", "1", "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["text"] == opened(name).fill(HOLES[name], seed=1).text


@pytest.mark.parametrize("name", KINDS)
def test_it_is_inspected_shown_and_converted_or_refused_by_name(name, made, tmp_path, capsys):
    for verb in ("inspect", "show"):
        assert run(["models", verb, str(made(name)), "--json"]) == 0
        assert json.loads(capsys.readouterr().out)
    out = tmp_path / "converted"
    code = run(["convert", str(made(name)), str(out)])
    said = capsys.readouterr()
    assert code in (0, 2)
    if code == 2:
        assert len(said.err.splitlines()) == 1
    else:
        assert mezzotint.load(out, threads=1).info.parameters > 0


@pytest.mark.parametrize("name", ["hybrid", "exported dream", "mdlm run", "sdar"])
def test_it_is_chatted_with_or_refused(name, made):
    command = [sys.executable, "-m", "mezzotint.cli.main", "chat", "--model", str(made(name)), "--threads", "1"]
    talk = subprocess.run(
        [*command, "--max-new-tokens", "6"], input="word7\n", capture_output=True, text=True, timeout=120, check=False
    )
    if name in CHATS:
        assert talk.returncode == 0, talk.stderr
        assert talk.stdout.strip()
    else:
        assert talk.returncode == 2
        assert "chat" in talk.stderr
        assert len(talk.stderr.splitlines()) == 1
