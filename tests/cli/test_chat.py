"""`mezzotint chat` on a tiny real model: turns, commands, interruptions and a context that overflows."""

import io
import os
import pty
import re
import select
import signal
import sys
import time

import pytest
from programs import arriving, started

from mezzotint import api
from mezzotint.cli.chat import Conversation
from mezzotint.cli.main import run
from mezzotint.cli.options import Settings
from mezzotint.errors import RequestError
from mezzotint.models.options import Options

SHORT = ["--backend", "torch", "--threads", "1", "--max-new-tokens", "8", "--temperature", "1"]


@pytest.fixture(scope="module")
def model(tiny):
    return api.load(tiny, backend="torch", threads=1)


def conversation(model, **given) -> Conversation:
    options = Options(**{"max_new_tokens": 8, "temperature": 1.0, **given})
    return Conversation(model, Settings(options=options), live=False)


def piped(tiny, lines: bytes, monkeypatch, *arguments) -> int:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(lines)))
    return run(["chat", "--model", str(tiny), *SHORT, *arguments])


def test_every_line_of_a_pipe_is_a_turn(tiny, capsys, monkeypatch):
    assert piped(tiny, b"hello\n\nand you?\n", monkeypatch) == 0
    _, err = capsys.readouterr()
    assert err.count("tokens per forward") == 2


def test_commands_are_obeyed_and_never_sent(tiny, capsys, monkeypatch):
    lines = b"/help\n/mode\n/mode ar\n/mode best\n/nothing\n/clear\n/system be brief\n/system\n/quit\nnot reached\n"
    assert piped(tiny, lines, monkeypatch) == 0
    out, err = capsys.readouterr()
    assert out == ""
    for words in ("/clear", "verify mode; /mode", "from now on by ar", "no mode 'best'", "no command /nothing"):
        assert words in err
    assert "forgotten" in err
    assert "with these instructions" in err
    assert "tokens per forward" not in err


def test_a_line_that_is_not_utf8_is_a_sentence(tiny, capsys, monkeypatch):
    assert piped(tiny, b"hello\n\xff\n", monkeypatch) == 2
    assert "line 2 of stdin is not valid UTF-8" in capsys.readouterr().err


def test_history_is_kept_until_it_is_cleared(model, capsys):
    talk = conversation(model, system="be brief")
    talk.say("one")
    first = capsys.readouterr().out.removesuffix("\n")
    talk.say("two")
    roles = [message["role"] for message in talk.prompt()]
    assert roles == ["system", "user", "assistant", "user", "assistant"]
    assert talk.prompt()[2]["content"].removesuffix("\n") == first.removesuffix("\n")
    talk.command("/clear")
    assert [message["role"] for message in talk.prompt()] == ["system"]


def test_turns_draw_with_different_seeds(model, capsys):
    talk = conversation(model)
    texts = []
    for _ in range(2):
        talk.say("one")
        texts.append(talk.prompt()[-1]["content"])
        talk.command("/clear")
    assert texts[0] != texts[1]


def test_the_oldest_turns_leave_when_the_context_is_full(model, capsys):
    talk = conversation(model)
    for number in range(6):
        talk.say(f"{number} " + "x" * 60)
    assert "no longer fit the context of 256 tokens" in capsys.readouterr().err
    assert talk.prompt()[0]["role"] == "user"
    assert not talk.prompt()[0]["content"].startswith("0")
    assert len(model.tokenizer.chat(talk.prompt()[:-1])) + 8 <= 256


def test_a_message_longer_than_the_context_is_refused_and_forgotten(model):
    talk = conversation(model)
    talk.say("one")
    before = list(talk.prompt())
    with pytest.raises(RequestError, match="context holds 256"):
        talk.say("x" * 400)
    assert [m["content"] for m in talk.prompt()] in ([m["content"] for m in before], [])
    talk.say("two")
    assert talk.prompt()[-2]["content"] == "two"


def test_a_message_may_begin_with_a_slash(tiny, capsys, monkeypatch):
    assert piped(tiny, b"//etc is a folder\n", monkeypatch) == 0
    assert "tokens per forward" in capsys.readouterr().err


def test_at_a_terminal_ctrl_c_stops_the_answer_and_ctrl_d_leaves(tiny):
    leader, follower = pty.openpty()
    arguments = [sys.executable, "-m", "mezzotint.cli.main", "chat", "--model", str(tiny), "--backend", "torch"]
    arguments += ["--threads", "1", "--max-new-tokens", "200", "--temperature", "1"]
    environment = os.environ | {"TERM": "xterm-256color"}
    seen = ""

    def wait_for(pattern: str) -> None:
        nonlocal seen
        deadline = time.monotonic() + 60
        while not re.search(pattern, seen, re.DOTALL):
            seen += arriving(leader, deadline - time.monotonic()).decode("utf-8", "replace")

    with started(
        arguments, stdin=follower, stdout=follower, stderr=follower, start_new_session=True, env=environment
    ) as process:
        os.close(follower)
        wait_for(r"/help lists the commands.*> ")
        for _ in range(9):  # on a busy machine an answer may end before it can be stopped
            seen = ""
            os.write(leader, b"hello\r")
            wait_for(r"tokens/s")
            process.send_signal(signal.SIGINT)
            wait_for(r"(stopped|Ctrl-D or /quit leaves).*> ")
            if "stopped" in seen:
                break
        hidden = seen
        seen = seen[seen.index("stopped") :]
        os.write(leader, b"/mode ar\r")
        wait_for(r"from now on by ar.*> ")
        for _ in range(60):  # readline misses a Ctrl-C between writing its prompt and waiting for a key
            process.send_signal(signal.SIGINT)
            while select.select([leader], [], [], 0.5)[0]:
                seen += os.read(leader, 65536).decode("utf-8", "replace")
            if "leaves" in seen:
                break
        assert "Ctrl-D or /quit leaves" in seen
        os.write(leader, b"\x04")
        assert process.wait(30) == 0
    assert hidden.rfind("\x1b[?25h") > hidden.rfind("\x1b[?25l") >= 0
    os.close(leader)
