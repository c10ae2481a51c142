"""The league's record as a table in Markdown and as a picture."""

from pathlib import Path
from typing import Any

from mezzotint.errors import ConfigError
from mezzotint.evaluate.bench.plot import INK, OTHERS_COLOUR, OURS_COLOUR, check
from mezzotint.league.published_ratios import ratios

JUDGE = "judge"


def averaged(record: dict[str, Any]) -> list[dict[str, Any]]:
    """One entry per family, a mean over its seeds, best first; the error is the larger of windows' and seeds'."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for model in record["models"]:
        if model["name"] != JUDGE:
            groups.setdefault(model["name"], []).append(model)
    entries = []
    for models in groups.values():
        bits = [model["bits_per_character"] for model in models]
        mean = sum(bits) / len(bits)
        spread = (sum((x - mean) ** 2 for x in bits) / max(len(bits) - 1, 1) / len(bits)) ** 0.5
        error = max(spread, *(model["standard_error"] for model in models))
        entries.append({**models[0], "bits_per_character": mean, "standard_error": error, "seeds": len(bits)})
    return sorted(entries, key=lambda entry: entry["bits_per_character"])


def markdown(record: dict[str, Any]) -> str:
    """The table: bounds with their errors, and the questions about samples at each number of steps."""
    entries = averaged(record)
    base = next((entry["bits_per_character"] for entry in entries if entry["exact"]), None)
    rows = [
        "| family | bits per character | to AR | published | tokens per CPU-second, training | infilling | "
        "steps: judge's bits (entropy), tokens per CPU-second |",
        "|---|---|---|---|---|---|---|",
    ]
    for entry in entries:
        bits, ratio = _bits(entry, base)
        curve = "; ".join(_quality(q) for q in entry["quality"])
        filled = f"{100 * entry['infilling']:.1f} ± {100 * entry['infilling_error']:.1f} %"
        rate = entry["tokens_per_cpu_second"]
        speed = "" if rate is None else f"{rate:,.0f}"
        cells = [entry["name"], bits, ratio, ratios(entry["name"]), speed, filled, curve]
        rows.append(f"| {' | '.join(cells)} |")
    counted = record["counted_bits_per_character"]
    rows.append(
        f"\nCounting tokens gives {counted['unigram']:.3f} bits per character, counting pairs {counted['bigram']:.3f}."
    )
    return "\n".join(rows) + "\n"


def _bits(entry: dict[str, Any], base: float | None) -> tuple[str, str]:
    """The bits of an entry, marked where they are a bound, and their ratio to those of autoregression."""
    bits = entry["bits_per_character"]
    sign = "" if entry["exact"] else "≤ "
    return f"{sign}{bits:.3f} ± {entry['standard_error']:.3f}", f"{bits / base:.2f}" if base else ""


def _quality(q: dict[str, Any]) -> str:
    """One number of steps: the judge's bits, entropy, speed, and the length where families choose it."""
    shown = f"{q['steps']}: {q['judge_bits']:.2f} ({q['entropy_bits']:.2f}), {q['tokens_per_second']:,.0f}"
    length = q["tokens_per_text"]
    return shown if length == int(length) else f"{shown}, {length:.0f} tokens a text"


def draw(record: dict[str, Any], path: Path) -> None:
    """Bounds as bars; the judge's bits against steps as lines.

    Raises:
        ConfigError: the path cannot become a picture.
        DependencyError: matplotlib is not installed.
    """
    check(path)
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    entries = averaged(record)
    figure = Figure(figsize=(12.5, 4.6), layout="constrained", facecolor="white")
    left, right = figure.subplots(1, 2)
    worst_first = entries[::-1]
    names, bits = [entry["name"] for entry in worst_first], [entry["bits_per_character"] for entry in worst_first]
    errors = [entry["standard_error"] for entry in worst_first]
    colours = [OTHERS_COLOUR if entry["exact"] else OURS_COLOUR for entry in worst_first]
    left.barh(names, bits, color=colours, xerr=errors, error_kw={"ecolor": INK, "lw": 1})
    left.axvline(record["counted_bits_per_character"]["bigram"], color=INK, lw=1, ls=":")
    # a bound far beyond counting tokens would leave the others no room
    left.set_xlim(min(bits) * 0.8, min(max(bits) * 1.05, 1.5 * record["counted_bits_per_character"]["unigram"]))
    left.set_title("bits per character on held-out text (dotted: pairs counted)", loc="left", fontsize=10, color=INK)
    for number, entry in enumerate(entries):
        curve, colour = entry["quality"], colormaps["tab20"](number % 20)
        steps, judged = [q["steps"] for q in curve], [q["judge_bits"] for q in curve]
        right.plot(steps, judged, marker="o", ms=4, color=colour, label=entry["name"])
    right.set_xscale("log", base=2)
    right.set_title("the judge's bits per token of samples, against passes", loc="left", fontsize=10, color=INK)
    right.legend(fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelcolor=INK, labelsize=8)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=160, metadata={"Date": None} if path.suffix == ".svg" else None)
    except OSError as error:
        raise ConfigError(f"cannot write {path} ({error.strerror}): choose another place for the picture") from error
