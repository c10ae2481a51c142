"""The picture of a benchmark: tokens per second and tokens per forward of every engine."""

from pathlib import Path
from typing import Any

from mezzotint.errors import ConfigError
from mezzotint.evaluate.bench.report import counted
from mezzotint.extras import require

OURS_COLOUR, OTHERS_COLOUR, INK = "#c2410c", "#a8a29e", "#292524"
LABELS = {
    "ar": "mezzotint, word by word",
    "diffusion": "mezzotint, diffusion",
    "verify": "mezzotint, draft and verify",
    "transformers-bf16": "transformers bf16",
    "transformers-fp32": "transformers fp32",
}


def check(path: Path) -> None:
    """Refuse a path that cannot become a picture.

    Raises:
        ConfigError: another ending than .svg or .png.
        DependencyError: matplotlib is not installed.
    """
    if path.suffix not in (".svg", ".png"):
        raise ConfigError(f"cannot draw {path.name}: name a file that ends in .svg or .png")
    require("matplotlib", "drawing")


def draw(record: dict[str, Any], path: Path) -> None:
    """Write the picture.

    Raises:
        ConfigError, DependencyError: as for `check`, or the place cannot be written.
    """
    check(path)
    from matplotlib.figure import Figure

    engines = sorted(record["engines"].items(), key=lambda item: item[1]["speed"]["tokens_per_second"]["mean"])
    names = [LABELS.get(name, name) for name, _ in engines]
    colours = [OURS_COLOUR if name in ("ar", "diffusion", "verify") else OTHERS_COLOUR for name, _ in engines]
    rates = [engine["speed"]["tokens_per_second"] for _, engine in engines]
    forwards = [engine["speed"]["tokens_per_forward"] for _, engine in engines]

    figure = Figure(figsize=(9, 1.5 + 0.42 * len(engines)), layout="constrained", facecolor="white")
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=(5, 2))
    errors = [[r["mean"] - r["low"] for r in rates], [r["high"] - r["mean"] for r in rates]]
    left.barh(names, [r["mean"] for r in rates], color=colours, xerr=errors, error_kw={"ecolor": INK, "lw": 1})
    right.barh(names, forwards, color=colours)
    for axes, values, reach, digits in ((left, rates, "high", 0), (right, forwards, None, 2)):
        for row, value in enumerate(values):
            at, shown = (value[reach], value["mean"]) if reach else (value, value)
            axes.annotate(f"{shown:.{digits}f}", (at, row), (5, 0), textcoords="offset points", va="center", color=INK)
        axes.margins(x=0.15)
        axes.xaxis.set_visible(False)
        axes.spines[["top", "right", "bottom"]].set_visible(False)
        axes.spines["left"].set_color(OTHERS_COLOUR)
        axes.tick_params(length=0, labelcolor=INK)
    left.set_title("tokens per second", loc="left", fontsize=11, color=INK)
    right.set_title("tokens per forward", loc="left", fontsize=11, color=INK)
    settings, machine = record["settings"], record["machine"]
    figure.suptitle(
        f"{settings['model']}, {settings['prompts']} chat prompts, {settings['new_tokens']} new tokens, "
        f"{counted(settings['threads'], 'thread')} of {machine['cpu']}",
        fontsize=10,
        color=INK,
    )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=160, metadata={"Date": None} if path.suffix == ".svg" else None)
    except OSError as error:
        raise ConfigError(f"cannot write {path} ({error.strerror}): choose another place for the picture") from error
