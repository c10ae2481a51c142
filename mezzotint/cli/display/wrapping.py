"""Text cut into terminal rows, by cells rather than characters.

Rows that are final never change again, whatever is written later, because what ended them is settled text.  So they can
be printed for good and only the rest has to be repainted.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rich.cells import get_character_cell_size

PLAIN = ""
"""The style of settled text."""

Piece = tuple[str, str]
"""Text and the name of its style."""

_BIDI = {*range(0x202A, 0x202F), *range(0x2066, 0x206A)}


@dataclass(frozen=True, slots=True)
class Glyph:
    """What occupies cells together: a character with the marks that follow it."""

    text: str
    cells: int
    style: str


@dataclass(frozen=True, slots=True)
class WrappedText:
    """Rows, how many of them are final, and the settled text from the first row that is not."""

    rows: list[list[Piece]]
    final: int
    rest: str


def lay_out(settled: str, pieces: Iterable[Piece], width: int) -> WrappedText:
    """Settled text followed by drafts and noise, wrapped at spaces into rows of at most `width` cells."""
    first = glyphs(settled, PLAIN)
    line = [*first, *(glyph for text, style in pieces for glyph in glyphs(text, style))]
    starts, ends, causes = _break(line, width)
    # what ended a row decides where it ends; once that is settled, nothing behind it can
    final = sum(cause < len(first) for cause in causes)
    rows = [_merge(line[start:end]) for start, end in zip(starts, ends, strict=True)]
    return WrappedText(rows, final, "".join(glyph.text for glyph in line[starts[final] : len(first)]))


def glyphs(text: str, style: str) -> list[Glyph]:
    """Text as glyphs that a terminal cannot misread: no control characters, no reordering, tabs as four spaces.

    Joined emoji count as their parts: terminals disagree about them, and a row that is too short does no harm.
    """
    found: list[Glyph] = []
    for character in text.replace("\t", "    ").replace("\r", ""):
        code = ord(character)
        if character != "\n" and (code < 32 or 127 <= code < 160 or code in _BIDI):
            character = "\N{REPLACEMENT CHARACTER}"
        cells = 0 if character == "\n" else get_character_cell_size(character)
        # the emoji selector widens some characters that are narrow by themselves
        widens = character == "\ufe0f" and bool(found) and found[-1].cells == 1
        if cells == 0 and character != "\n" and found and found[-1].text != "\n":
            last = found[-1]
            found[-1] = Glyph(last.text + character, 2 if widens else last.cells, last.style)
        else:
            found.append(Glyph(character, cells, style))
    return found


def _break(line: Sequence[Glyph], width: int) -> tuple[list[int], list[int], list[int]]:
    """Where rows start, where they end, and the glyph that ended each but the last.

    Glyphs between an end and the next start, a space or a line break, are not shown.
    """
    starts, ends, causes = [0], [], []
    used, gap = 0, -1
    index = 0
    while index < len(line):
        glyph = line[index]
        if glyph.text == "\n":
            ends.append(index)
            starts.append(index + 1)
            causes.append(index)
            used, gap = 0, -1
        elif used + glyph.cells > width and index > starts[-1]:
            if glyph.text == " ":
                end, start = index, index + 1
            elif gap >= 0:
                end, start = (gap, gap + 1) if line[gap].text == " " else (gap + 1, gap + 1)
            else:
                end, start = index, index
            ends.append(end)
            starts.append(start)
            causes.append(index)
            used, gap = 0, -1
            index = start
            continue
        else:
            used += glyph.cells
            # Chinese and Japanese have no spaces: any wide character may end a row
            if (glyph.text == " " and index > starts[-1]) or glyph.cells == 2:
                gap = index
        index += 1
    return starts, [*ends, len(line)], causes


def _merge(row: Sequence[Glyph]) -> list[Piece]:
    pieces: list[Piece] = []
    for glyph in row:
        if pieces and pieces[-1][1] == glyph.style:
            pieces[-1] = (pieces[-1][0] + glyph.text, glyph.style)
        else:
            pieces.append((glyph.text, glyph.style))
    return pieces
