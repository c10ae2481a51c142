"""Characters or subwords for a text of one's own: the same recipe, text and seconds of a core, read both ways.

Run: python benchmarks/bench_tokens.py, a quarter of an hour of two cores.  The text is encyclopedia articles that a
package of the Python index carries (data/packages.py `WIKIPEDIA`), whole or its beginning.  Every piece trains on one
thread for as many steps as fit into the seconds of processor time that it is given, whatever else the machine does, and
is measured on the same held-out twentieth of the text.
"""

import argparse
import html
import os
import re
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from sentences import guarded

from mezzotint.batch import Batch
from mezzotint.config import override, to_dict, write_json
from mezzotint.data.characters import Pages
from mezzotint.data.packages import WIKIPEDIA, unpacked
from mezzotint.evaluate.bench.machine import commit, machine, slug, versions
from mezzotint.families.base import objective_of
from mezzotint.models.trained import TrainedModel
from mezzotint.objectives.bits import measure
from mezzotint.recipes import from_scratch
from mezzotint.train.loop import run

RESULTS = Path(__file__).parent / "results"
TRIAL = 60
"""Steps that tell what a step costs."""


def articles(most: int) -> str:
    """The text: at most this many characters of it; 0 is all."""
    found = re.findall(r"<doc [^>]*>\n(.*?)</doc>", unpacked(WIKIPEDIA, print).read_text(encoding="utf-8"), re.S)
    text = "\n\n".join(html.unescape(re.sub(r"<[^>]+>", "", article)).strip() for article in found)
    return text[:most] if most else text


def piece(asked: tuple[int, str, float]) -> dict[str, Any]:
    """Train and measure one model."""
    size, tokens, seconds = asked
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = folder / "articles.txt"
        path.write_text(articles(size), encoding="utf-8")
        edits = [f"data={path}", f"tokens={tokens}", "train.max_minutes=null", "train.eval_every=null"]
        recipe = override(from_scratch.mdlm(), [*edits, f"train.steps={TRIAL}", "samples=0"])
        begun = time.process_time()
        run(replace(recipe.build(), evaluate=None, export=None), recipe.train, folder / "trial")
        steps = max(round(seconds / (time.process_time() - begun) * TRIAL), TRIAL)
        recipe = override(recipe, [f"train.steps={steps}"])
        begun = time.process_time()
        run(replace(recipe.build(), evaluate=None), recipe.train, folder / "run")
        used = time.process_time() - begun
        model, held = TrainedModel.load(folder / "run" / "export"), recipe.corpus().valid
    pages = Pages(held.ids, recipe.length, 1)
    windows: list[Batch] = [pages.batch(number) for number in range(min(len(pages), 400))]
    bits, error = measure(model.network, objective_of(model.family), windows, draws=4).bits(held.ratio)
    *_, canvas = model.decode(model.blank(3), recipe.sample_steps)
    return {
        "characters": size or len(articles(0)),
        "tokens": tokens,
        "vocabulary": model.vocabulary.vocab,
        "characters_per_token": round(1 / held.ratio, 3),
        "steps": steps,
        "cpu_seconds": round(used, 1),
        "bits_per_character": bits,
        "standard_error": error,
        "windows": len(windows),
        "parameters": sum(p.numel() for p in model.network.parameters()),
        "samples": model.texts(canvas),
        "recipe": to_dict(replace(recipe, data="articles.txt")),
    }


def main() -> None:
    """Run every piece and write the record."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="*", default=[100_000, 300_000, 0], help="characters; 0 is all")
    parser.add_argument("--seconds", type=float, default=120.0, help="processor seconds of every training")
    parser.add_argument("--workers", type=int, default=2, help="pieces at a time")
    given = parser.parse_args()
    pieces = [(size, tokens, given.seconds) for size in given.sizes for tokens in ("characters", "subwords")]
    articles(0)
    # the threads of a forked pool would wait for those of its parent
    with ProcessPoolExecutor(given.workers, mp_context=get_context("spawn")) as pool:
        results = list(pool.map(piece, pieces))
    record = {
        "source_text": f"{WIKIPEDIA.name} {WIKIPEDIA.version} ({WIKIPEDIA.licence})",
        "recipe": "mdlm-small",
        "seconds": given.seconds,
        "workers": given.workers,
        "load": os.getloadavg()[2],
        "models": results,
        "machine": machine(),
        "source": commit() | versions(("torch", "tokenizers")),
    }
    write_json(RESULTS / f"tokens_{slug(machine()['cpu'])}.json", record)
    for each in results:
        print(
            f"{each['characters']:>9,} characters  {each['tokens']:10}  {each['vocabulary']:>5} ids  "
            f"{each['bits_per_character']:.3f} ± {each['standard_error']:.3f} bits per character"
        )


if __name__ == "__main__":
    guarded(main)
