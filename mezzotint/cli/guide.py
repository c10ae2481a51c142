"""`mezzotint guide`: texts of a run, steered by judges, by its own conditions, or by agreement."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from mezzotint.models.guided import Wish

Wants = Annotated[
    list[str] | None,
    typer.Option("--want", "-w", metavar="JUDGE=VALUE", help="A judge (a run of judge-small) and what it is to see."),
]
Edits = Annotated[
    list[str] | None,
    typer.Option("--set", "-s", metavar="NAME=VALUE", help="A setting of the family's sampler: eta=0, clamp=0.5."),
]


def guide(
    model: Annotated[str, typer.Argument(help="A run of mezzotint train.")],
    prompt: Annotated[str, typer.Argument(help="Text to go on from, holes as underscores.")] = "",
    want: Wants = None,
    strength: Annotated[float, typer.Option(help="How strongly judges are heard.")] = 1.0,
    exact: Annotated[bool, typer.Option("--exact", help="Ask about every token, not along slopes; slow.")] = False,
    told: Annotated[str | None, typer.Option(help="What the text is to be, for a run with told=length: words.")] = None,
    scale: Annotated[
        float | None, typer.Option(help="How strongly conditions count (sed's columns, --told); 1 is as trained.")
    ] = None,
    edits: Edits = None,
    samples: Annotated[int, typer.Option(help="Texts to write.")] = 1,
    agree: Annotated[bool, typer.Option("--agree", help="Only the text that agrees most with the others.")] = False,
    steps: Annotated[int, typer.Option(help="Denoising steps.")] = 32,
    seed: Annotated[int, typer.Option(help="Of the first text.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the texts as JSON.")] = False,
) -> None:
    """Write texts of a run with guidance.

    Examples:

      mezzotint train judge-small --set model=runs/udlm-small --set data=my.txt --out runs/length

      mezzotint guide runs/diffusion-lm-small "the " --want runs/length=4 --set eta=1

      mezzotint guide runs/sed-small "the ____ on" --scale 2 --samples 8 --agree

      mezzotint train udlm-small --set data=my.txt --set told=length --out runs/told

      mezzotint guide runs/told --told 4 --scale 3

    Below every text stands whether each wish was met, by the text itself and in the judge's eyes.
    A judge of length takes a number of words; one of kinds a letter per token: v vowel, c other letter, s space,
    d digit, m mark, ? any.
    """
    _check(samples, steps, (seed, strength, scale or 0.0), agree)
    folder = _folder(model)
    from mezzotint.errors import ConfigError
    from mezzotint.models.classifier import TrainedClassifier
    from mezzotint.models.guided import ClassifierGuidance, agreed, became, scaled
    from mezzotint.models.guided import class_conditional as hearing
    from mezzotint.models.guided import samples as written
    from mezzotint.models.trained import TrainedModel

    asked = TrainedModel.load(folder, edits or [])
    if told is not None and want:
        raise ConfigError("a text is either guided by judges or told what to be: give --want or --told")
    if scale is not None and told is None:
        scaled(asked, scale)
    wishes = [(TrainedClassifier.load(_exported(name), folder), value) for name, value in map(_wish, want or [])]
    columns, seeds = asked.prompt(prompt, None), range(seed, seed + samples)
    if told is not None:
        found = hearing(asked, columns, steps, seeds, told, 1.0 if scale is None else scale)
    else:
        found = written(asked, columns, steps, seeds, wishes, ClassifierGuidance(strength=strength, exact=exact))
    if agree:
        found = [found[agreed(asked, found)]]
    said = [(wish, *asks) for wish, asks in zip(want or [], wishes, strict=True)] or _told(told)
    each = [[became(asked, canvas, *one) for one in said] for canvas in found]
    _say([asked.texts(canvas)[0] for canvas in found], each, as_json)


def _told(value: str | None) -> list[tuple[str, None, str]]:
    return [] if value is None else [(f"told={value}", None, value)]


def _say(texts: list[str], wishes: "list[list[Wish]]", as_json: bool) -> None:
    """Texts to stdout, and below each on stderr what became of its wishes."""
    if as_json:
        said = {"texts": texts, "wishes": [[asdict(wish) for wish in row] for row in wishes]}
        typer.echo(json.dumps(said, ensure_ascii=False))
        return
    for text, row in zip(texts, wishes, strict=True):
        typer.echo(text)
        for wish in row:
            typer.secho(wish.line(), dim=True, err=True)


def _check(samples: int, steps: int, numbers: tuple[float, ...], agree: bool) -> None:
    from mezzotint.errors import RequestError
    from mezzotint.models.run import MOST_STEPS

    if samples < 1 or not 1 <= steps <= MOST_STEPS:
        raise RequestError(f"cannot write {samples} texts in {steps} steps: ask for 1 or more, in 1 to {MOST_STEPS}")
    if not all(0 <= x < float("inf") for x in numbers):
        raise RequestError("--seed, --strength and --scale are numbers from 0 up")
    if agree and samples < 3:
        raise RequestError(f"{samples} texts cannot outvote each other: give --samples 3 or more with --agree")


def _folder(model: str) -> Path:
    from mezzotint.errors import ConfigError
    from mezzotint.models.resolve import TRAINED, resolve

    found = resolve(model)
    if found.kind != TRAINED:
        raise ConfigError(f"{model} is a {found.kind} model, and guidance is for runs trained from scratch")
    return found.folder


def _exported(classifier: str) -> Path:
    from mezzotint.models.run_folder import exported

    return exported(Path(classifier))


def _wish(said: str) -> tuple[str, str]:
    from mezzotint.errors import ConfigError

    name, equals, value = said.partition("=")
    if not equals:
        raise ConfigError(f"cannot read the wish {said!r}: write it as JUDGE=VALUE, such as runs/length=4")
    return name, value
