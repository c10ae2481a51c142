"""What cannot be asked for is refused with one sentence and exit code 2, before anything heavy is loaded."""

import inspect
import re
import subprocess
import sys

import pytest

from mezzotint.api import load as mezzotint_load
from mezzotint.checkpoints import DEFAULT_MODEL
from mezzotint.cli.generate import generate
from mezzotint.cli.options import Settings
from mezzotint.errors import MezzotintError
from mezzotint.models.options import Options

DIFFUSION = ["--mode", "diffusion"]


def mezzotint(*arguments, **options):
    command = [sys.executable, "-m", "mezzotint.cli.main", *arguments]
    return subprocess.run(command, capture_output=True, timeout=60, **options)


@pytest.mark.parametrize(
    ("arguments", "given", "sentence"),
    [
        (["generate", ""], b"", "the prompt is empty"),
        (["generate", " \n"], b"", "the prompt is empty"),
        (["generate", "-"], b"\n", "the prompt is empty"),
        (["generate", "-"], b"ab\xff", "stdin is not valid UTF-8 (byte 2 is 0xff)"),
        (["generate", b"caf\xe9"], b"", "the prompt is not valid UTF-8 (byte 3 is 0xe9)"),
        (["generate", "hi", "--max-new-tokens", "0"], b"", "max_new_tokens 0 is no whole number"),
        (["chat", "--max-new-tokens", "-2"], b"", "max_new_tokens -2 is no whole number"),
        (["generate", "hi", "--rule", "threshold"], b"", "No such option: --rule"),
    ],
)
def test_the_command_line_says_what_is_wrong_in_one_sentence(arguments, given, sentence):
    result = mezzotint(*arguments, input=given)
    message = result.stderr.decode()
    assert result.returncode == 2
    assert sentence in message
    assert message.count("\n") == 1
    assert result.stdout == b""


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"mode": "magic"}, "there is no mode 'magic': use verify, ar or diffusion"),
        ({"temperature": -0.5}, "temperature -0.5 is no number from 0 up"),
        ({"temperature": float("nan")}, "temperature nan"),
        ({"temperature": float("inf")}, "temperature inf"),
        ({"temperature": "hot"}, "temperature 'hot' is no number"),
        ({"temperature": True}, "temperature True is no number"),
        ({"top_p": 0.0}, "top_p 0.0 is no number"),
        ({"top_p": 1.5}, "top_p 1.5 is no number from 0 to 1"),
        ({"top_k": -1}, "top_k -1 is no whole number from 0 up"),
        ({"seed": -1}, "seed -1 is no whole number from 0"),
        ({"seed": "a"}, "seed 'a' is no whole number"),
        ({"max_new_tokens": 0}, "max_new_tokens 0 is no whole number from 1 up"),
        ({"max_new_tokens": 1.5}, "max_new_tokens 1.5 is no whole number"),
        ({"block": 0}, "block 0 is no whole number"),
        ({"steps": 0}, "steps 0 is no whole number"),
        ({"accept": 1.1}, "accept 1.1 is no number from 0 to 1"),
        ({"threshold": 1.2}, "threshold 1.2 is no number up to 1"),
        ({"threshold": float("nan")}, "threshold nan"),
        ({"factor": -1.0}, "factor -1.0 is no number"),
        ({"entropy_bound": float("inf")}, "entropy_bound inf"),
        ({"tokens_per_step": 0}, "tokens_per_step 0 is no whole number"),
        ({"tokens_per_step": 1.5}, "tokens_per_step 1.5 is no whole number"),
        ({"system": 3}, "system 3 is no text"),
        ({"temperatur": 1}, "there is no option 'temperatur': did you mean temperature?"),
    ],
)
def test_every_value_out_of_range_has_its_sentence(given, sentence):
    with pytest.raises(MezzotintError, match=re.escape(sentence)) as caught:
        Options.of(given)
    assert str(caught.value)[0].islower()
    assert not str(caught.value).endswith(".")


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"block": 8}, "block belongs to mode diffusion: leave it out of mode verify"),
        ({"threshold": 0.5}, "threshold belongs to mode diffusion"),
        ({"correct": False}, "correct belongs to mode diffusion"),
        ({"mode": "diffusion", "accept": 0.1, "correct": False}, "leave one out"),
        ({"mode": "diffusion", "threshold": -0.1}, "threshold -0.1 is not from 0 to 1"),
        ({"mode": "diffusion", "threshold": 0.1, "factor": 1.0}, "threshold and factor are two rules"),
        ({"mode": "diffusion", "block": 65}, "in blocks of 65"),
    ],
)
def test_what_does_not_go_together_has_its_sentence(given, sentence, tiny):
    model = mezzotint_load(tiny)
    with pytest.raises(MezzotintError, match=re.escape(sentence)):
        model.generate("hi", **given)


@pytest.mark.parametrize(
    ("given", "sentence"), [({"backend": "cuda"}, "no backend 'cuda'"), ({"threads": 0}, "0 threads")]
)
def test_what_cannot_be_opened_with_is_said_first(given, sentence):
    with pytest.raises(MezzotintError, match=sentence):
        Settings(**given).check()


def test_only_what_was_given_is_passed_on():
    assert Settings().writing() == {}
    assert Settings(options=Options(mode="diffusion", block=4)).writing() == {"mode": "diffusion", "block": 4}
    assert Settings(options=Options(temperature=0.0, top_p=1.0)).writing() == {"temperature": 0.0, "top_p": 1.0}


def test_the_default_model_is_the_one_that_the_cache_knows():
    assert Settings().model == DEFAULT_MODEL


def test_every_setting_is_an_option_of_the_commands():
    every = (set(Settings.__dataclass_fields__) - {"options"}) | set(Options.__dataclass_fields__)
    assert every < set(inspect.signature(generate).parameters)


@pytest.mark.parametrize("verb", ["generate", "chat"])
def test_help_teaches_with_examples_and_loads_no_torch(verb):
    script = f"import sys; from mezzotint.cli.main import run; run(['{verb}', '--help']); print('torch' in sys.modules)"
    shown = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60
    ).stdout
    assert shown.strip().endswith("False")
    assert f"mezzotint {verb}" in shown
    assert all(word in shown for word in ("--temperature", "--threshold", "--threads", "verify"))
