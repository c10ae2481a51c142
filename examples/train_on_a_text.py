"""Train a masked diffusion model on a text, then continue a prompt and fill a hole with it.

python examples/train_on_a_text.py my.txt runs/mine 2000
"""

import sys
from pathlib import Path

import mezzotint
from mezzotint import recipes
from mezzotint.train.loop import run
from mezzotint.train.run_record import open_run


def main(text: str, folder: str = "runs/example", steps: str = "1000", *edits: str) -> None:
    """Train MDLM by characters; further `edits` are settings, such as network.width=128."""
    wanted = [f"data={text}", f"train.steps={steps}", "train.max_minutes=null", *edits]
    recipe, name = recipes.load("mdlm-small", wanted)
    task, out = recipe.build(), Path(folder)
    outcome = run(task, recipe.train, out, title=name, opened=lambda: open_run(out, recipe, name, resume=False))
    bound = {key: value for key, value in outcome.evaluation.items() if not isinstance(value, str)}
    print(f"{outcome.step} steps, {outcome.seconds:.0f} s:", {key: round(value, 3) for key, value in bound.items()})

    model = mezzotint.load(folder)
    print(model)
    print("continued:", model.generate("The ", steps=16).text)
    print("filled:   ", model.fill("the ___ on the mat", steps=4).text)


if __name__ == "__main__":
    main(*sys.argv[1:])
