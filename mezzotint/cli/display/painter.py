"""Rows of text at the bottom of a terminal, painted again and again, and the grain of the noise on them."""

from typing import Any

from rich.color import ColorSystem
from rich.console import Console
from rich.style import Style

from mezzotint.cli.display.wrapping import PLAIN, Piece

NOISE = "noise"
STATUS = "status"
GRAIN = "⣿⣷⣯⣟⡿⢿⣻⣽⣾⢷⡾⣳⢯⡷⣞⢧⡺⢕⡪"
COARSE = "#%&$*+=~"
"""Noise for terminals that cannot write Braille."""

STYLES: dict[str, dict[str, Any]] = {
    PLAIN: {},
    NOISE: {"color": "bright_black"},
    STATUS: {"dim": True},
    "draft0": {"color": "#8a6d5c", "dim": True},
    "draft1": {"color": "#9c6f4e"},
    "draft2": {"color": "#b9793f"},
    "draft3": {"color": "#d08a3c"},
}
"""From bare copper to polished: the surer a draft, the brighter."""


class Painter:
    """Rows at the bottom of a terminal that can be painted again.

    Every frame is one write, wrapped in the terminal's synchronised update where it has one, and touches only rows that
    changed.  Automatic wrapping is off meanwhile, so a glyph of another width than expected cannot push rows around.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._system = _color_system(console)
        # a style keeps the escapes of the first terminal it was written to, so every painter has its own
        styles = {name: Style(**look) for name, look in STYLES.items()}
        self._styles = {name: style.without_color if console.no_color else style for name, style in styles.items()}
        self._shown: list[str] = []

    @property
    def width(self) -> int:
        """Columns of the terminal."""
        return max(1, self._console.width)

    @property
    def height(self) -> int:
        """Rows of the terminal."""
        return max(1, self._console.height)

    def paint(self, settled: list[list[Piece]], live: list[list[Piece]]) -> None:
        """Print the settled rows for good and the live rows below them."""
        rows = [self._render(row) for row in live]
        above = [self._render(row) for row in settled]
        old, new = self._shown, [*above, *rows]
        out = ["\x1b[?2026h\x1b[?25l\x1b[?7l\r", f"\x1b[{len(old) - 1}A" if len(old) > 1 else ""]
        for index, row in enumerate(new):
            if index >= len(old) or old[index] != row:
                # erased first: behind a row of full width the cursor still stands on its last cell
                out += ["\x1b[K", row]
            if index < len(new) - 1:
                out.append("\r\n")
        if len(old) > len(new):
            out.append("\r\n\x1b[J\x1b[A")
        out.append("\r\x1b[?7h\x1b[?2026l")
        self._write("".join(out))
        self._shown = rows

    def finish(self, rows: list[list[Piece]]) -> None:
        """Replace the live rows by `rows`, end the line and give the cursor back."""
        self.paint(rows, [[]])
        self._write("\r\x1b[J\x1b[?25h")
        self._shown = []

    def clear(self) -> None:
        """Take the live rows away, leave the cursor where they began."""
        self.paint([], [[]])
        self._write("\x1b[?25h")
        self._shown = []

    def _render(self, row: list[Piece]) -> str:
        return "".join(self._styles[name].render(text, color_system=self._system) for text, name in row)

    def _write(self, text: str) -> None:
        self._console.file.write(text)
        self._console.file.flush()


def speck(column: int, frame: int, console: Console, *, letter: bool = False) -> Piece:
    """A column of noise: always the same size, a word's or a letter's, other grain in every frame."""
    grain = GRAIN if _can_write(GRAIN, console) else COARSE
    size = 1 if letter else 1 + (column * 2654435761 >> 9) % 4
    state = column * 7919 + frame * 104729
    return (
        " " * (not letter) + "".join(grain[(state * (i + 3) * 40503 >> 8) % len(grain)] for i in range(size)),
        NOISE,
    )


def _color_system(console: Console) -> ColorSystem | None:
    names = {"standard": ColorSystem.STANDARD, "256": ColorSystem.EIGHT_BIT, "truecolor": ColorSystem.TRUECOLOR}
    return names.get(console.color_system or "")


def _can_write(text: str, console: Console) -> bool:
    try:
        text.encode(console.encoding)
    except (UnicodeEncodeError, LookupError):
        return False
    return True
