"""A benchmark's record as tables for people."""

from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

MEGABYTE = 2**20
HEADLINES = (
    ("verify", "llama.cpp"),
    ("verify", "transformers-bf16"),
    ("verify", "transformers-fp32"),
    ("verify", "ar"),
)
MORE = (("ar", "llama.cpp"), ("diffusion", "ar"), ("diffusion", "verify"))


def tables(record: dict[str, Any]) -> RenderableType:
    """Speed, quality, ratios and the backend's fidelity, with what is missing said in a sentence each."""
    parts: list[RenderableType] = [_speed(record)]
    if all("quality" in engine for engine in record["engines"].values()):
        parts.append(_quality(record))
    parts += [Text(line) for line in [*_ratios(record), *_fidelity(record), *_missing(record)]]
    return Group(*parts)


def counted(number: int, noun: str) -> str:
    """A number with its noun."""
    return f"{number} {noun}" + ("" if number == 1 else "s")


def _speed(record: dict[str, Any]) -> Table:
    settings, machine = record["settings"], record["machine"]
    table = Table(
        title=f"{settings['model']}: {settings['prompts']} prompts, up to {settings['new_tokens']} new tokens, "
        f"{counted(settings['threads'], 'thread')} of {machine['cpu']}",
        title_justify="left",
    )
    for column in ("engine", "tok/s", "95 %", "tok/fwd", "first ms", "load s", "MB"):
        table.add_column(column, justify="left" if column == "engine" else "right")
    for name, engine in record["engines"].items():
        speed, load = engine["speed"], engine["load"]
        rate = speed["tokens_per_second"]
        memory = load.get("peak_bytes", load["load_peak_bytes"])
        table.add_row(
            name,
            f"{rate['mean']:.1f}",
            f"{rate['low']:.1f}-{rate['high']:.1f}",
            f"{speed['tokens_per_forward']:.2f}",
            f"{speed['first_token_seconds'] * 1000:.0f}",
            f"{load['start_seconds']:.1f}",
            f"{memory / MEGABYTE:.0f}",
        )
    return table


def _quality(record: dict[str, Any]) -> Table:
    reference = next(iter(record["engines"].values()))["quality"]["agreement"]["reference"]
    table = Table(
        title=f"quality of the same answers (=: identical to {reference}; prefix: share before they differ)",
        title_justify="left",
    )
    columns = ("engine", "=", "prefix", "log p", "rep-4", "entropy", "exact, 95 %")
    for column in columns:
        table.add_column(column, justify="left" if column == "engine" else "right", no_wrap=True)
    for name, engine in record["engines"].items():
        q = engine["quality"]
        match = q["exact_match"]
        table.add_row(
            name,
            f"{q['agreement']['identical']['mean']:.0%}",
            f"{q['agreement']['prefix']['mean']:.0%}",
            f"{q['log_likelihood']['mean']:.3f}",
            f"{q['repetition']['4']:.3f}",
            f"{q['entropy']['mean']:.2f}",
            f"{match['mean']:.0%} ({match['low'] * 100:.0f}-{match['high'] * 100:.0f})" if match["count"] else "-",
        )
    return table


def _ratios(record: dict[str, Any]) -> list[str]:
    lines = []
    for fast, slow in HEADLINES + MORE:
        found = record["ratios"].get(f"{fast} / {slow}")
        if found:
            lines.append(
                f"{fast} writes {found['median']:.2f} x the tokens/s of {slow} "
                f"(median of {len(found['rounds'])} rounds, {found['lowest']:.2f} to {found['highest']:.2f})"
            )
    return lines


def _fidelity(record: dict[str, Any]) -> list[str]:
    found = record.get("fidelity", {})
    if "missing" in found:
        return [f"backend not compared with its reference: {found['missing']}"]
    if not found:
        return []
    kl, greedy = found["kl_nats_per_token"], found["greedy_agreement"]
    return [
        f"the {found['backend']} backend against {found['reference']}: KL {kl['mean']:.4f} nats per token, "
        f"same likeliest token at {greedy['mean']:.2%} of {found['tokens']} positions"
    ]


def _missing(record: dict[str, Any]) -> list[str]:
    return [f"{name} was not measured: {why}" for name, why in record["missing"].items()]
