"""A terminal small enough to trust: rows of cells, a cursor, scrolling, and the escapes that the canvas uses."""

import re

from rich.cells import get_character_cell_size

_TOKEN = re.compile(r"\x1b\[(\??[\d;]*)([A-Za-z])|\r|\n|[^\x1b\r\n]", re.DOTALL)


class Terminal:
    """What a user sees, scrollback included, after everything was written."""

    def __init__(self, width: int, height: int) -> None:
        self.width, self.height = width, height
        self.rows: list[list[str]] = [[]]
        self.row = self.column = 0
        self.wraps = True
        self.cursor = True

    def write(self, text: str) -> None:
        at = 0
        for match in _TOKEN.finditer(text):
            assert match.start() == at, f"unknown escape {text[at : at + 9]!r}"
            at = match.end()
            parameters, final = match.group(1), match.group(2)
            if final is None:
                self._put(match.group())
            elif final == "A":
                top = max(0, len(self.rows) - self.height)
                self.row = max(top, self.row - int(parameters or 1))
            elif final == "K":
                self.rows[self.row] = self.rows[self.row][: self.column]
            elif final == "J":
                self.rows[self.row] = self.rows[self.row][: self.column]
                del self.rows[self.row + 1 :]
            elif final in "hl":
                self.wraps = final == "h" if parameters == "?7" else self.wraps
                self.cursor = final == "h" if parameters == "?25" else self.cursor
            else:
                assert final == "m", f"unknown escape {match.group()!r}"
        assert at == len(text)

    def text(self) -> list[str]:
        return ["".join(row).rstrip() for row in self.rows]

    def _put(self, character: str) -> None:
        if character == "\r":
            self.column = 0
            return
        if character == "\n":
            self.row += 1
            if self.row == len(self.rows):
                self.rows.append([])
            return
        cells = get_character_cell_size(character)
        row = self.rows[self.row]
        if cells == 0:
            if row:
                row[-1] += character
            return
        assert not self.wraps or self.column + cells <= self.width, "a row wrapped by itself"
        if self.column + cells > self.width:
            return
        row += [" "] * (self.column - len(row))
        row[self.column : self.column + cells] = [character, *[""] * (cells - 1)]
        self.column += cells
