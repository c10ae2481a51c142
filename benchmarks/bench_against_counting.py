"""A family trained for a fixed number of steps against counting tokens and pairs, on the league's held-out windows.

    OMP_NUM_THREADS=1 python benchmarks/bench_against_counting.py diffusion-lm --steps 10000

The recipe is the family's own, as in the league; only the number of steps differs.  The run is kept in `--out`: the
same command goes on where it stopped.  Writes benchmarks/results/against_counting_<family>_<machine>.json.
"""

import argparse
import time
from dataclasses import replace
from pathlib import Path

from sentences import guarded

from mezzotint.config import to_dict, write_json
from mezzotint.data.corpus import find
from mezzotint.evaluate.bench.machine import commit, machine, slug, versions
from mezzotint.evaluate.generative import counted
from mezzotint.families.base import objective_of
from mezzotint.league.play import FAMILIES, held_windows
from mezzotint.models.trained import TrainedModel
from mezzotint.objectives.bits import measure
from mezzotint.recipes import load
from mezzotint.recipes.from_scratch import Small
from mezzotint.train.checkpoint import saved
from mezzotint.train.loop import run

RESULTS = Path(__file__).parent / "results"


def main() -> None:
    """Train, measure, write, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("family", choices=[*FAMILIES])
    parser.add_argument("--corpus", default="letters", help="of `mezzotint data build`, or a text file")
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--windows", type=int, default=512, help="held-out windows")
    parser.add_argument("--out", type=Path, help="where the run is kept; runs/against-FAMILY if not given")
    given = parser.parse_args()
    recipe, _ = load(FAMILIES[given.family])
    assert isinstance(recipe, Small)
    train = replace(recipe.train, steps=given.steps, max_minutes=None, eval_every=max(1, given.steps // 4))
    recipe = replace(recipe, data=given.corpus, samples=1, train=train)
    folder = given.out or Path("runs") / f"against-{given.family}"
    begun, busy = time.perf_counter(), time.process_time()
    run(recipe.build(), recipe.train, folder, title=given.family, resume=bool(saved(folder / "checkpoints")))
    seconds = {"wall": time.perf_counter() - begun, "cpu": time.process_time() - busy}
    corpus = find(given.corpus, recipe.length)
    model = TrainedModel.load(folder / "export")
    found = measure(model.network, objective_of(model.family), held_windows(corpus, recipe.length, given.windows), 4)
    bits, error = found.bits(corpus.test.ratio)
    counts = counted(corpus.train.ids, corpus.test.ids, corpus.vocabulary.vocab)
    record = {
        "family": given.family,
        "exact": recipe.family.kind == "ar",
        "bits_per_character": bits,
        "standard_error": error,
        "counted_bits_per_character": {name: value * corpus.test.ratio for name, value in counts.items()},
        "training_seconds": {name: round(value, 1) for name, value in seconds.items()},
        "recipe": to_dict(recipe),
        "corpus": corpus.facts,
        "windows": given.windows,
        "machine": machine(),
        "source": commit() | versions(("torch",)),
    }
    write_json(RESULTS / f"against_counting_{given.family}_{slug(machine()['cpu'])}.json", record)
    print(f"{given.family}: {bits:.3f} +- {error:.3f} bits per character;", record["counted_bits_per_character"])


if __name__ == "__main__":
    guarded(main)
