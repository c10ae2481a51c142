"""What a run records and shows.

metrics.jsonl is the truth: one JSON object per line with a `kind` ("train", "eval", "event").  The terminal shows the
same numbers live on stderr, or as plain lines where stderr is no terminal.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any, Self

import torch
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from mezzotint.objectives.base import Loss


class Window:
    """Token-weighted sums of a loss and its companions; restarts from what a checkpoint kept."""

    def __init__(self, sums: dict[str, Any] | None = None) -> None:
        self.sums: dict[str, float] = dict(sums or {})

    def add(self, values: dict[str, float], count: float, seconds: float) -> None:
        """Add the means `values` over `count` tokens, which took `seconds`."""
        for name, value in {**{k: v * count for k, v in values.items()}, "count": count, "seconds": seconds}.items():
            self.sums[name] = self.sums.get(name, 0.0) + value

    def close(self) -> dict[str, float]:
        """The means since the last call, with tokens/s; empties the window."""
        count, seconds = self.sums.pop("count", 0.0), self.sums.pop("seconds", 0.0)
        means = {name: total / max(count, 1.0) for name, total in self.sums.items()}
        self.sums = {}
        return {**means, "tokens_per_second": round(count / seconds, 1) if seconds else 0.0}


def scalars(loss: Loss) -> tuple[dict[str, float], float]:
    """The loss and its metrics as numbers, and their count: one wait for the device."""
    names = ["loss", *loss.metrics]
    values = torch.stack([v.detach().float().reshape(()) for v in (loss.total, *loss.metrics.values(), loss.count)])
    *means, count = values.tolist()
    return dict(zip(names, means, strict=True)), count


class MetricsLog:
    """Appends to metrics.jsonl, each line whole."""

    def __init__(self, path: Path, step: int) -> None:
        """Continue the file after `step`: lines of a former session beyond it are dropped, as they will come again."""
        self.path = path
        if path.exists():
            kept = [line for line in path.read_text(encoding="utf-8").splitlines() if _belongs(line, step)]
            path.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")

    def write(self, kind: str, step: int, values: dict[str, Any]) -> None:
        """One line; a disk that refuses it does not stop the run."""
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"kind": kind, "step": step, **values}, ensure_ascii=False) + "\n")
        except OSError as error:
            sys.stderr.write(f"cannot record metrics in {self.path}: {error}\n")


class ProgressDisplay:
    """The run on stderr: a live line in a terminal, else plain lines, at most one in five seconds."""

    def __init__(self, title: str, console: Console | None = None) -> None:
        self.title, self.console = title, console or Console(stderr=True, highlight=False)
        self.live = Live(console=self.console, auto_refresh=False, transient=True) if self.console.is_terminal else None
        self.last = -1e9

    def __enter__(self) -> Self:
        if self.live:
            self.live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.live:
            self.live.stop()

    def step(self, step: int, values: dict[str, float], used: float, left: float) -> None:
        """Show the numbers of a step, the used share of the run and the seconds left."""
        now = time.monotonic()
        if now - self.last < (0.25 if self.live else 5):
            return
        self.last = now
        parts = {
            "loss": f"{values['loss']:.4f}",
            "tokens/s": f"{values['tokens_per_second']:,.0f}",
            "left": clock(left),
        }
        parts |= {k: f"{v:.4g}" for k, v in values.items() if k not in ("loss", "tokens_per_second")}
        if self.live:
            self.live.update(self._row(step, parts, used), refresh=True)
        else:
            text = "  ".join(f"{name} {value}" for name, value in parts.items())
            self.console.print(f"{self.title}  step {step}  {used:.0%}  {text}", soft_wrap=True)

    def say(self, message: str) -> None:
        """A line that stays."""
        self.console.print(Text(message), soft_wrap=True)

    def _row(self, step: int, parts: dict[str, str], used: float) -> Table:
        width = 20
        full = round(width * min(used, 1))
        row = Table.grid(padding=(0, 2))
        bar = Text("━" * full, style="green") + Text("━" * (width - full), style="bright_black")
        cells = [Text(name, style="bright_black") + Text(f" {value}") for name, value in parts.items()]
        row.add_row(Text(self.title, style="bold"), bar, f"{used:4.0%}", f"step {step}", *cells)
        return row


def clock(seconds: float) -> str:
    """Seconds as 1:02:03 or 2:03."""
    if seconds != seconds or seconds == float("inf"):
        return "?"
    minutes, rest = divmod(max(round(seconds), 0), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def _belongs(line: str, step: int) -> bool:
    try:
        return json.loads(line)["step"] <= step
    except (ValueError, KeyError, TypeError):
        return False  # the half line of a killed run
