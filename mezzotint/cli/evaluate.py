"""`mezzotint evaluate`: how many bits a run's model needs for a text that it has not seen."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from mezzotint.evaluate.held_out_text import TextBits


def evaluate(
    model: Annotated[Path, typer.Argument(help="A run of mezzotint train, finished or not, or an exported model.")],
    data: Annotated[Path, typer.Option(help="A UTF-8 text file that the model has not learnt from.")],
    windows: Annotated[
        int | None, typer.Option(help="Windows at most, spread over the text; all if not given.", min=1)
    ] = None,
    draws: Annotated[int, typer.Option(help="Times the noise of a window is drawn.", min=1)] = 4,
    seed: Annotated[int, typer.Option(help="Of the noise.", min=0)] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Measure a model on a held-out text: nats per token, bits per character, perplexity, each with its error.

    For all families but the autoregressive one the figures are upper bounds.

    Examples:

      mezzotint evaluate runs/mdlm-small --data held-out.txt

      mezzotint evaluate runs/mdlm-small --data held-out.txt --windows 200 --draws 8 --json
    """
    from rich.console import Console
    from rich.progress import Progress

    from mezzotint.data.characters import read_text
    from mezzotint.errors import ConfigError
    from mezzotint.extras import require
    from mezzotint.models.run_folder import model_folder

    require("torch", "mezzotint evaluate")
    from mezzotint.evaluate.held_out_text import text_bits
    from mezzotint.models.trained import TrainedModel

    folder = model_folder(model)
    if folder is None:
        raise ConfigError(f"there is no run in {model}: give the folder of a model that mezzotint train made")
    text = read_text(data, 1)
    with Progress(console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task("measuring", total=None)
        found = text_bits(
            TrainedModel.load(folder),
            text,
            windows=windows,
            draws=draws,
            seed=seed,
            tell=lambda done, total: progress.update(bar, completed=done, total=total),
        )
    if as_json:
        typer.echo(json.dumps({"model": str(folder), "data": str(data), **found.to_dict()}))
        return
    _say(found)


def _say(found: "TextBits") -> None:
    bound = "" if found.exact else "at most "

    def shown(value: float, error: float | None) -> str:
        return f"{bound}{value:.4f}" + (f" ± {error:.4f}" if error is not None else "")

    typer.echo(f"bits per character\t{shown(found.bits_per_character, found.bits_per_character_error)}")
    typer.echo(f"nats per token\t{shown(found.nats_per_token, found.nats_per_token_error)}")
    typer.echo(f"perplexity\t{bound}{found.perplexity:.2f}")
    typer.echo(
        f"{'exact' if found.exact else 'upper bounds'}: {found.windows} windows of {found.length} tokens, "
        f"{found.draws} draws, seed {found.seed}",
        err=True,
    )
