"""What cannot be asked for is refused with one sentence and exit code 2, before anything heavy is loaded."""

import inspect
import re
import subprocess
import sys

import pytest
import torch

from mezzotint.checkpoints import DEFAULT_MODEL
from mezzotint.cli.generate import generate
from mezzotint.cli.options import LEVELS, Settings
from mezzotint.errors import MezzotintError

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
        (["generate", "hi", "--max-new-tokens", "0"], b"", "cannot generate 0 tokens"),
        (["chat", "--max-new-tokens", "-2"], b"", "cannot generate -2 tokens"),
        (["generate", "hi", "--rule", "threshold"], b"", "--rule belongs to --mode diffusion"),
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
        ({"backend": "cuda"}, "there is no backend 'cuda'"),
        ({"temperature": -0.5}, "temperature -0.5 is not a number from 0 up"),
        ({"temperature": float("nan")}, "temperature nan"),
        ({"temperature": float("inf")}, "temperature inf"),
        ({"top_p": 0.0}, "top-p 0 is not above 0"),
        ({"top_p": 1.5}, "top-p 1.5"),
        ({"seed": -1}, "seed -1 is not from 0"),
        ({"threads": 0}, "cannot run on 0 threads"),
        ({"mode": "ar", "block": 8}, "--block belongs to --mode diffusion: leave it out of --mode ar"),
        ({"level": 0.5}, "--level belongs to --mode diffusion"),
        ({"correct": False}, "--correct belongs to --mode diffusion"),
        ({"mode": "diffusion", "accept": 1.1}, "accept 1.1 is not from 0 to 1"),
        ({"mode": "diffusion", "accept": 0.1, "correct": False}, "leave one out"),
        ({"mode": "diffusion", "block": 0}, "in blocks of 0 tokens"),
        ({"mode": "diffusion", "rule": "best"}, "there is no rule 'best'"),
        ({"mode": "diffusion", "level": 1.2}, "threshold 1.2 is not from 0 to 1"),
        ({"mode": "diffusion", "level": -0.1}, "threshold -0.1 is not from 0 to 1"),
        ({"mode": "diffusion", "level": float("nan")}, "threshold nan"),
        ({"mode": "diffusion", "rule": "factor", "level": -1.0}, "factor -1 is not"),
        ({"mode": "diffusion", "rule": "entropy", "level": float("inf")}, "entropy inf is not"),
        ({"mode": "diffusion", "rule": "topk", "level": 0.0}, "topk 0 is not a whole number"),
        ({"mode": "diffusion", "rule": "topk", "level": 1.5}, "topk 1.5 is not a whole number"),
    ],
)
def test_every_value_out_of_range_has_its_sentence(given, sentence):
    with pytest.raises(MezzotintError, match=re.escape(sentence)) as caught:
        Settings(**given).check()
    assert str(caught.value)[0].islower() or str(caught.value).startswith("--")
    assert not str(caught.value).endswith(".")


@pytest.mark.parametrize(
    ("given", "options"),
    [
        ({}, {}),
        ({"mode": "diffusion"}, {}),
        ({"mode": "diffusion", "rule": "entropy"}, {"rule": "entropy", "level": LEVELS["entropy"]}),
        ({"mode": "diffusion", "level": 0.5}, {"rule": "threshold", "level": 0.5}),
        ({"mode": "diffusion", "block": 4, "correct": True}, {"block": 4, "correct": True}),
        ({"temperature": 0.0, "top_p": 1.0}, {"temperature": 0.0, "top_p": 1.0}),
    ],
)
def test_only_what_was_given_is_passed_on(given, options):
    settings = Settings(**given)
    settings.check()
    always = {"mode": settings.mode, "max_new_tokens": 256, "seed": 0}
    assert settings.writing() == always | options


def test_the_default_model_is_the_one_that_the_cache_knows():
    assert Settings().model == DEFAULT_MODEL


def test_every_setting_is_an_option_of_the_commands():
    assert set(Settings.__dataclass_fields__) < set(inspect.signature(generate).parameters)


@pytest.mark.parametrize("verb", ["generate", "chat"])
def test_help_teaches_with_examples_and_loads_no_torch(verb):
    script = f"import sys; from mezzotint.cli.main import run; run(['{verb}', '--help']); print('torch' in sys.modules)"
    shown = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60
    ).stdout
    assert shown.strip().endswith("False")
    assert f"mezzotint {verb}" in shown
    assert all(word in shown for word in ("--temperature", "--rule", "--threads", "verify"))


def test_models_in_torch_take_the_threads_asked_for():
    before = torch.get_num_threads()
    try:
        Settings(threads=3).limit_threads()
        assert torch.get_num_threads() == 3
        Settings().limit_threads()
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
