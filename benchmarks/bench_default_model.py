"""The benchmark behind the README's numbers and picture: the default model, every engine, on this machine.

    python benchmarks/bench_default_model.py                  # the whole run
    python benchmarks/bench_default_model.py --set prompts=12 --set rounds=4
    python benchmarks/bench_default_model.py --draw benchmarks/results/default_model_NAME.json

Writes benchmarks/results/default_model_<machine>.json and docs/images/speed.svg, and prints the tables.
"""

import argparse
from pathlib import Path

from rich.console import Console
from sentences import guarded

from mezzotint.cli.bench import measured
from mezzotint.config import override
from mezzotint.evaluate.bench import record
from mezzotint.evaluate.bench.machine import machine, physical_cores, slug
from mezzotint.evaluate.bench.plot import draw
from mezzotint.evaluate.bench.report import tables
from mezzotint.evaluate.bench.setup import Bench

ROOT = Path(__file__).parent.parent
PICTURE = ROOT / "docs" / "images" / "speed.svg"


def main() -> None:
    """Measure, write, draw, print."""
    parser = argparse.ArgumentParser(description="Benchmark the default model on this machine.")
    parser.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE", help="change one setting of Bench")
    parser.add_argument("--draw", type=Path, metavar="RECORD", help="only draw the picture again, from a record")
    arguments = parser.parse_args()
    if arguments.draw is not None:
        made = record.read(arguments.draw)
        draw(made, PICTURE)
    else:
        settings = override(Bench(threads=physical_cores()), arguments.set)
        out = ROOT / "benchmarks" / "results" / f"default_model_{slug(machine()['cpu'])}.json"
        made = measured(settings, out, PICTURE)
    Console().print(tables(made))


if __name__ == "__main__":
    guarded(main)
