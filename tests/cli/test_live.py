"""What stays on a terminal must be the answer, whole, at any size of terminal and in any order of writing."""

import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from performance import diffusion, spoken, verify
from rich.console import Console
from terminal import Terminal

from mezzotint.cli.display import live
from mezzotint.cli.display.painter import GRAIN
from mezzotint.cli.display.wrapping import lay_out
from mezzotint.engine.events import Finished, Settled, Started, Wrote
from mezzotint.models.answer import Origin

TEXT = (
    "A mezzotint begins as a copper plate.\n\n    indented(code)\n\n漢字とかな、空白なし 🎉🎉 ❤️ é.\n"
    "1. averyveryverylongwordthatfitsnowhere\n\nThe end.\n"
)


class Screen(io.StringIO):
    """Stdout of a program in a terminal, which sees every write as it happens."""

    def __init__(self, width: int, height: int) -> None:
        super().__init__()
        self.terminal = Terminal(width, height)
        self.tallest = 0

    def write(self, text: str) -> int:
        self.terminal.write(text)
        return super().write(text)


def perform(tokenizer, events, width, height, monkeypatch=None, **options):
    screen = Screen(width, height)
    console = Console(file=screen, force_terminal=True, width=width, height=height, **options)
    finished = live.play(spoken(tokenizer, events), live.Live(tokenizer, console))
    return screen, finished


def expected(text: str, width: int) -> list[str]:
    rows = lay_out(text.rstrip(), [], width).rows
    return [*("".join(piece for piece, _ in row).rstrip() for row in rows), ""]


@pytest.fixture(autouse=True)
def every_event_is_a_frame(monkeypatch):
    monkeypatch.setattr(live, "FRAME_SECONDS", 0.0)


@pytest.mark.parametrize("order", [diffusion, verify])
@pytest.mark.parametrize(("width", "height"), [(80, 24), (30, 8), (9, 5), (8, 3)])
def test_the_screen_ends_as_the_answer_at_any_size(tokenizer, order, width, height):
    screen, finished = perform(tokenizer, order(tokenizer.encode(TEXT), 1), width, height)
    assert screen.terminal.text() == expected(TEXT, width)
    assert screen.terminal.cursor
    assert screen.terminal.wraps
    assert isinstance(finished, Finished)


@given(
    st.text(st.sampled_from("ab  \n漢é🎉-"), min_size=1, max_size=60),
    st.integers(2, 15),
    st.integers(2, 8),
    st.integers(),
)
@settings(max_examples=60, deadline=None)
def test_any_text_in_any_order_ends_as_the_answer(tokenizer, text, width, height, seed):
    screen, _ = perform(tokenizer, diffusion(tokenizer.encode(text), seed), width, height)
    rows = expected(text, width) if text.strip() else [""]
    assert screen.terminal.text() == rows


def test_rows_that_are_done_are_written_once(tokenizer):
    text = "word " * 100
    screen, _ = perform(tokenizer, verify(tokenizer.encode(text), 2), 40, 10)
    written = screen.getvalue()
    # some 400 frames of the last row, up to eight words; painting all rows again would take 20 000
    assert 100 <= written.count("word") < 5000


def test_noise_moves_drafts_are_coloured_and_settled_text_is_plain(tokenizer):
    screen, _ = Screen(60, 10), None
    display = live.Live(tokenizer, Console(file=screen, force_terminal=True, width=60, color_system="truecolor"))
    display.show(Started(3, 0.1))
    display.show(Wrote((0, 1, 3), tuple(tokenizer.encode("Hi!")), (0.95, 0.1, 0.6), 8))
    first = screen.terminal.text()[0]
    assert first.startswith("Hi ")
    assert first[4:].strip("!")
    assert all(c in GRAIN or c in " !" for c in first[2:])
    frame = screen.getvalue()
    assert "\x1b[38;2;208;138;60mH" in frame
    assert "\x1b[2;38;2;138;109;92mi" in frame
    display.show(Wrote((2,), tuple(tokenizer.encode(",")), (0.5,), 8))
    assert screen.terminal.text()[0][:3] == "Hi,"
    assert screen.terminal.text()[0][4:] != first[4:]
    display.show(Settled(tuple(tokenizer.encode("Hi, ")), "Hi, "))
    assert "Hi, \x1b[" in screen.getvalue()
    display.close()
    assert screen.terminal.text() == ["Hi,", ""]


def test_without_colour_no_colour_is_written(tokenizer):
    screen, _ = perform(tokenizer, verify(tokenizer.encode(TEXT), 3), 60, 10, no_color=True)
    assert "38;2" not in screen.getvalue()
    assert "\x1b[90m" not in screen.getvalue()


def test_an_interruption_leaves_the_settled_text_and_the_cursor(tokenizer):
    def interrupted():
        yield Started(3, 0.1)
        yield Settled(tuple(tokenizer.encode("so far")), "so far")
        yield Wrote((6, 7), tuple(tokenizer.encode("ab")), (0.5, 0.5), 10)
        raise KeyboardInterrupt

    screen = Screen(40, 10)
    display = live.Live(tokenizer, Console(file=screen, force_terminal=True, width=40))
    with pytest.raises(KeyboardInterrupt):
        live.play(interrupted(), display)
    assert screen.terminal.text() == ["so far", ""]
    assert screen.terminal.cursor
    assert display.text == "so far"


@pytest.mark.parametrize("order", [diffusion, verify])
def test_a_stream_is_the_text_itself_and_ends_its_line(tokenizer, order):
    out = io.StringIO()
    display = live.Stream(out)
    live.play(spoken(tokenizer, order(tokenizer.encode(TEXT + "no break"), 4)), display)
    assert out.getvalue() == TEXT + "no break\n"
    assert display.text == TEXT + "no break"


def test_a_stream_never_writes_half_a_character(tokenizer):
    class Whole(io.StringIO):
        def write(self, text):
            assert "\ufffd" not in text
            return super().write(text)

    live.play(spoken(tokenizer, verify(tokenizer.encode("漢字🎉é" * 5), 5)), live.Stream(Whole()))


def test_a_text_that_is_continued_stands_before_what_is_written(tokenizer):
    out = io.StringIO()
    live.play(spoken(tokenizer, verify(tokenizer.encode(" sat down"), 5)), live.Stream(out, "the cat"))
    assert out.getvalue() == "the cat sat down\n"
    screen = Screen(40, 10)
    display = live.Live(tokenizer, Console(file=screen, force_terminal=True, width=40), "the cat")
    live.play(spoken(tokenizer, verify(tokenizer.encode(" sat down"), 5)), display)
    assert screen.terminal.text() == ["the cat sat down", ""]


def test_the_closing_line_has_all_four_numbers():
    causal = Origin("verify", "tiny", "native", causal=True)
    line = live.summary(Finished("length", 97, 0.8, 40, 0.05), causal)
    assert line == "97 tokens, 0.80 s, 121.2 tokens/s, 2.40 tokens per forward, cut at the token limit"
    assert live.summary(Finished("stop", 0, 0.0, 0, 0.0), causal).startswith("0 tokens, 0.00 s, 0.0 tokens/s")
