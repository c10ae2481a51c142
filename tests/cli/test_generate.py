"""`mezzotint generate` on a tiny real model: what is printed where, in every mode, to pipes and terminals."""

import io
import json
import os
import pty
import subprocess
import sys
import termios
import time

import pytest
from programs import arriving, started

from mezzotint.cli.main import run

FACTS = {
    "text",
    "tokens",
    "seconds",
    "tokens_per_second",
    "forwards",
    "tokens_per_forward",
    "mode",
    "model",
    "finish_reason",
}
SHORT = ["--backend", "torch", "--threads", "1", "--max-new-tokens", "12"]


def command(tiny, *arguments):
    main = [sys.executable, "-m", "mezzotint.cli.main", "generate", "hello", "--model", str(tiny), *SHORT]
    return [*main, *arguments]


def in_terminal(arguments, width=40, height=12, **environment) -> str:
    """What a program writes to a terminal of its own."""
    leader, follower = pty.openpty()
    termios.tcsetwinsize(follower, (height, width))
    names = {"TERM": "xterm-256color", "LANG": "C.UTF-8", **environment}
    kept = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "COLUMNS", "LINES")}
    terminal = {"stdin": follower, "stdout": follower, "stderr": subprocess.PIPE, "env": kept | names}
    with started(arguments, **terminal) as process:
        os.close(follower)
        written = b""
        try:
            while chunk := arriving(leader):
                written += chunk
        except OSError:
            pass  # the terminal's way of saying that nobody writes to it any more
        assert process.wait(60) == 0, process.stderr.read().decode()
    os.close(leader)
    return written.decode()


@pytest.mark.parametrize("mode", ["ar", "verify", "diffusion"])
def test_json_is_one_object_with_every_fact(tiny, mode, capsys):
    assert run(["generate", "hello", "--model", str(tiny), *SHORT, "--mode", mode, "--json"]) == 0
    out, err = capsys.readouterr()
    answer = json.loads(out)
    assert answer.keys() >= FACTS
    assert (answer["mode"], answer["tokens"], len(answer["token_ids"])) == (mode, 12, 12)
    assert answer["finish_reason"] == "length"
    assert err == ""


def test_the_stream_and_the_json_hold_the_same_text(tiny, capsys):
    arguments = ["generate", "hello", "--model", str(tiny), *SHORT, "--temperature", "1", "--seed", "3"]
    run([*arguments, "--json"])
    text = json.loads(capsys.readouterr().out)["text"]
    run(arguments)
    out, err = capsys.readouterr()
    assert out == text + ("" if text.endswith("\n") else "\n")
    assert err.startswith("12 tokens, ")
    assert "tokens per forward" in err


def test_every_rule_writes(tiny, capsys):
    for rule, value in (("threshold", "0.5"), ("factor", "1"), ("entropy-bound", "0.5"), ("tokens-per-step", "3")):
        options = ["--mode", "diffusion", f"--{rule}", value, "--block", "4", "--no-correct", "--json"]
        assert run(["generate", "hello", "--model", str(tiny), *SHORT, *options]) == 0
        assert json.loads(capsys.readouterr().out)["tokens"] == 12


def test_a_system_message_and_stdin_reach_the_model(tiny, capsys, monkeypatch):
    counts = []
    for given, extra in ((b"hello\n", []), (b"hello", []), (b"hello", ["--system", "be brief"])):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(given)))
        assert run(["generate", "-", "--model", str(tiny), *SHORT, *extra, "--json"]) == 0
        counts.append(json.loads(capsys.readouterr().out)["prompt_tokens"])
    assert counts[0] == counts[1] < counts[2]


def test_control_tokens_in_a_prompt_are_text(tiny, capsys):
    counts = []
    for prompt in ("<|im_end|>", "_" * len("<|im_end|>")):
        run(["generate", prompt, "--model", str(tiny), *SHORT, "--json"])
        counts.append(json.loads(capsys.readouterr().out)["prompt_tokens"])
    assert counts[0] == counts[1]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["x" * 300], "the context holds 256"),
        (["hello", "--model", "no-such-model"], "no-such-model"),
        (["hello", "--mode", "best"], "there is no mode 'best'"),
    ],
)
def test_what_the_model_cannot_do_is_a_sentence(tiny, arguments, sentence, capsys):
    model = [] if "--model" in arguments else ["--model", str(tiny)]
    assert run(["generate", *arguments, *model, "--backend", "torch"]) == 2
    out, err = capsys.readouterr()
    assert sentence in err
    assert err.count("\n") == 1
    assert out == ""


def test_a_terminal_gets_the_canvas_and_a_dumb_one_the_stream(tiny, capsys):
    run(["generate", "hello", "--model", str(tiny), *SHORT])
    plain = capsys.readouterr().out
    painted = in_terminal(command(tiny), COLORTERM="truecolor")
    assert "\x1b[?25l" in painted
    assert painted.endswith("\x1b[?25h")
    assert "38;2" in painted
    assert in_terminal(command(tiny), TERM="dumb").replace("\r\n", "\n") == plain
    assert "38;" not in in_terminal(command(tiny), NO_COLOR="1")
    assert json.loads(in_terminal(command(tiny, "--json")))["tokens"] == 12


def test_text_is_streamed_while_it_is_written_and_a_closed_pipe_ends_quietly(tiny):
    long = ["--max-new-tokens", "200", "--seed", "1", "--temperature", "1"]
    with started(command(tiny, *long), stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert arriving(process.stdout.fileno())
        assert process.poll() is None
        process.stdout.close()
        begun = time.monotonic()
        assert process.wait(60) == 141
        assert process.stderr.read() == b""
        assert time.monotonic() - begun < 30
