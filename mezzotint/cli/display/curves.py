"""Curves of runs: as a picture, and in characters for a terminal."""

from collections.abc import Sequence
from pathlib import Path

from mezzotint.errors import ConfigError
from mezzotint.evaluate.bench.plot import check

Curve = tuple[str, Sequence[int], Sequence[float]]
"""A name, steps and values."""
_DOTS = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))
"""The bits of a braille cell by column and row."""


def picture(curves: Sequence[Curve], label: str, path: Path) -> None:
    """Write the curves, over optimiser steps, to a .svg or .png file.

    Raises:
        ConfigError: as `check` of evaluate/bench/plot.py, or the place cannot be written.
    """
    check(path)
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.5), layout="constrained", facecolor="white")
    axes = figure.subplots()
    for name, steps, values in curves:
        axes.plot(steps, values, label=name, linewidth=1.5)
    axes.set_xlabel("optimiser step")
    axes.set_ylabel(label)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    try:
        figure.savefig(path, dpi=150)
    except OSError as error:
        raise ConfigError(f"cannot write {path} ({error.strerror}): choose another place for the picture") from None


def drawn(steps: Sequence[int], values: Sequence[float], width: int = 60, height: int = 8) -> list[str]:
    """A curve in braille dots, its highest and lowest value at the left; nothing for fewer than two points."""
    if len(values) < 2 or steps[-1] == steps[0]:
        return []
    low, high = min(values), max(values)
    span = (high - low) or 1.0
    cells = [[0] * width for _ in range(height)]
    points = sorted(zip(steps, values, strict=True))
    at = 0
    for x in range(2 * width):
        step = points[0][0] + (points[-1][0] - points[0][0]) * x / (2 * width - 1)
        while at < len(points) - 2 and points[at + 1][0] < step:
            at += 1
        (left, before), (right, after) = points[at], points[at + 1]
        value = before + (after - before) * (step - left) / max(right - left, 1)
        y = round((high - value) / span * (4 * height - 1))
        cells[y // 4][x // 2] |= _DOTS[x % 2][y % 4]
    marks = {0: f"{high:.3f}", height - 1: f"{low:.3f}"}
    rows = [f"{marks.get(i, ''):>8} {''.join(chr(0x2800 + cell) for cell in row)}" for i, row in enumerate(cells)]
    return [*rows, f"{'':9}{points[0][0]:<{width // 2}}{points[-1][0]:>{width - width // 2}}"]
