"""Rows must fit, lose no text, and once final stay as they are whatever is written behind them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from mezzotint.cli.display.wrapping import lay_out

TEXTS = st.text(st.sampled_from("ab  \n漢é🎉-"), max_size=40)
WIDTHS = st.integers(2, 12)


def shown(layout) -> list[str]:
    return ["".join(text for text, _ in row) for row in layout.rows]


@given(TEXTS, TEXTS, WIDTHS)
def test_rows_fit_and_lose_nothing_but_the_spaces_and_breaks_between_them(settled, draft, width):
    layout = lay_out(settled, [(draft, "draft0")], width)
    assert all(cell_len(row) <= width for row in shown(layout))
    assert "".join(shown(layout)).replace(" ", "") == (settled + draft).replace(" ", "").replace("\n", "")


@given(TEXTS, TEXTS, TEXTS, WIDTHS)
def test_final_rows_do_not_depend_on_what_follows(settled, draft, other, width):
    layout = lay_out(settled, [(draft, "draft0")], width)
    longer = lay_out(settled + other, [], width)
    assert shown(longer)[: layout.final] == shown(layout)[: layout.final]
    assert longer.final >= layout.final


@given(TEXTS, TEXTS, WIDTHS)
def test_the_rest_continues_where_the_final_rows_end(settled, other, width):
    layout = lay_out(settled, [], width)
    rest = lay_out(layout.rest + other, [], width)
    assert shown(layout)[: layout.final] + shown(rest) == shown(lay_out(settled + other, [], width))


@pytest.mark.parametrize(
    ("text", "width", "rows"),
    [
        ("the cat sat", 7, ["the cat", "sat"]),
        ("the cats sat", 7, ["the", "cats", "sat"]),
        ("abcdefgh", 3, ["abc", "def", "gh"]),
        ("a abcdefgh", 3, ["a", "abc", "def", "gh"]),
        ("漢字漢字", 5, ["漢字", "漢字"]),
        ("if x:\n    y", 20, ["if x:", "    y"]),
        ("a\n\nb", 5, ["a", "", "b"]),
        ("a\tb\r\n", 9, ["a    b", ""]),
        ("🎉🎉", 1, ["🎉", "🎉"]),
        ("", 9, [""]),
    ],
)
def test_rows_break_where_a_reader_expects_them_to(text, width, rows):
    assert shown(lay_out(text, [], width)) == rows


def test_control_characters_never_reach_the_terminal():
    text = shown(lay_out("a\x1b[2J\x07\x9b1m\u202eb", [], 40))[0]
    assert text == "a\ufffd[2J\ufffd\ufffd1m\ufffdb"
