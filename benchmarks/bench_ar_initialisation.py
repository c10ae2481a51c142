"""What several ways of turning SmolLM2-135M into a diffusion model reach, and what the un-adapted model reaches.

    OMP_NUM_THREADS=1 python benchmarks/bench_ar_initialisation.py RUN RUN RUN [--base] [--windows 64] [--name cpu]

RUN is the folder of a finished `mezzotint train smollm2-dream` or another recipe of its kind.  Loss and
infilling accuracy along training are taken from its metrics.jsonl.  Then the exported model and, with --base or once
runs are given, the un-adapted one are asked for missing tokens of the corpus' test part, which neither training nor the
evaluations along it have seen: the same windows, the same holes, one pass per block; adapted ones fill the hole in the
middle once more with a pass per token; I-DLM, which writes from left to right, also says how many tokens its passes
win.  The un-adapted model is read

    causally    as it was trained: left to right, its own answers being read for what comes next
    full        as DiffuLLaMA and Dream read: every column sees every column, logits one column early
    blocks      as SDAR reads: blocks of four, logits at their own column
    ordered     as WeDLM reads: causally, decided columns before masks, logits at their own column

with a mask of the same embedding.  Every piece is kept in the record as soon as it is there, and not measured again.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import torch
from turns import RESULTS

from mezzotint.batch import Batch
from mezzotint.checkpoints import open_checkpoint
from mezzotint.config import from_dict, load_run, write_json
from mezzotint.data.documents import packed, texts
from mezzotint.data.tokenizer import Tokenizer
from mezzotint.denoisers.published.add_mask import TrainableDecoder, mask_of, with_mask
from mezzotint.denoisers.published.attention_patterns import BlockCausalPattern, CausalPattern, FullPattern
from mezzotint.denoisers.published.open import AlignedNetwork, PublishedModel, open_published
from mezzotint.evaluate.bench.machine import commit, machine, versions
from mezzotint.evaluate.infilling import infilled, ways
from mezzotint.models.published import named, write
from mezzotint.recipes.from_causal import Adaptation, held_out, model_of
from mezzotint.rng import Rng

IMAGE = Path(__file__).parents[1] / "docs" / "images" / "ar-initialisation.svg"
READINGS = {
    "causally": (CausalPattern(), 1, 1),
    "full": (FullPattern(), 1, None),
    "blocks": (BlockCausalPattern(4), 0, 4),
    "ordered": (CausalPattern(), 0, None),
}
"""Of the un-adapted model: who sees whom, columns looked back, columns per block."""
COLOURS = {
    "diffullama": "#0f766e",
    "dream": "#c2410c",
    "sdar": "#4338ca",
    "fast_dllm": "#a16207",
    "efficient_dlm": "#be185d",
    "wedlm": "#0369a1",
    "idlm": "#65a30d",
}
PASSES = "one by one"
"""The hole in as many passes as it has tokens, the surest first."""
GREY, INK = "#a8a29e", "#292524"


def main() -> None:
    """Measure what the record lacks, write it and draw it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("runs", nargs="*", type=Path)
    parser.add_argument("--base", action="store_true", help="measure the un-adapted model too, by the default corpus")
    parser.add_argument("--windows", type=int, default=64)
    parser.add_argument("--data", default="subwords", help="the corpus, where no run says it")
    parser.add_argument("--name", default="cpu", help="part of the record's name")
    parser.add_argument("--plot", type=Path, default=IMAGE)
    given = parser.parse_args()
    out = RESULTS / f"ar_initialisation_{given.name}.json"
    record: dict[str, Any] = json.loads(out.read_text(encoding="utf-8")) if out.exists() else {"runs": {}, "found": {}}
    record |= {"machine": machine(), "versions": versions(), "commit": commit(), "threads": torch.get_num_threads()}
    for run in given.runs:
        facts = read(run)
        kind = facts["config"]["family"]["kind"]
        record["runs"][kind] = {**record["runs"].get(kind, {}), **facts}
    known = [facts["config"] for facts in record["runs"].values()]
    recipe = from_dict(Adaptation, known[0]) if known else Adaptation(data=given.data, **_first())
    windows, record["test"] = asked(recipe, given.windows)
    for name in READINGS if given.base or given.runs else ():
        measure(record, f"un-adapted, {name}", out, recipe, windows, None)
    for run in given.runs:
        own = from_dict(Adaptation, load_run(run / "run.json")["config"])
        measure(record, own.family.kind, out, own, windows, run)
    write_json(out, record)
    print(table(record))
    if record["runs"]:
        draw(record, given.plot)


def _first() -> dict[str, Any]:
    from mezzotint.recipes.from_causal import dream

    cfg = dream()
    return {"family": cfg.family, "train": cfg.train}


def read(run: Path) -> dict[str, Any]:
    """Configuration, curves and sessions of a run."""
    found = load_run(run / "run.json")
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    config = found["config"]
    per_step = config["rows"] * config["length"] * config["train"]["accumulate"]
    losses = [[line["step"], line["loss"]] for line in lines if line["kind"] == "train"]
    evaluations = [
        {key: value for key, value in line.items() if key != "kind"} for line in lines if line["kind"] == "eval"
    ]
    steps = lines[-1]["step"]
    seconds = [line["seconds"] for line in lines if line["kind"] == "event" and "seconds" in line]
    return {
        "config": config,
        "command": ["mezzotint", *without_place(found["sessions"][0]["command"][1:])],
        "tokens_per_step": per_step,
        "tokens": per_step * steps,
        "steps": steps,
        "seconds": seconds[-1] if seconds else None,
        "loss": losses,
        "evaluations": evaluations,
    }


def without_place(words: list[str]) -> list[str]:
    """A command line without --out and the folder behind it."""
    at = words.index("--out") if "--out" in words else len(words)
    return words[:at] + words[at + 2 :]


def asked(recipe: Adaptation, count: int) -> tuple[torch.Tensor, dict[str, Any]]:
    """Long[n, L]: windows of the test part, and what they are."""
    checkpoint = open_checkpoint(recipe.model)
    tokenizer = Tokenizer.from_spec(checkpoint.tokenizer)
    found = texts(recipe.data, recipe.characters)
    ids = packed(found.test, tokenizer.encode, tokenizer.eos_ids[0])
    windows = held_out(ids, recipe.length, count)
    return windows, {"windows": len(windows), "length": recipe.length, "part": "test", "corpus": found.facts["sources"]}


def measure(
    record: dict[str, Any], name: str, out: Path, recipe: Adaptation, windows: torch.Tensor, run: Path | None
) -> None:
    """Ask one model what the record does not have of it for as many windows."""
    answers: dict[str, Any] = record["found"].get(name, {})
    if answers.get("windows") != len(windows):
        answers = {"windows": len(windows), "cpu_seconds": 0.0}
    questions = {
        way: (holes, 1) for way, holes in ways(len(windows), recipe.length, recipe.shares, recipe.hole).items()
    }
    last = f"{recipe.hole} in the middle"
    if run is not None:
        questions[f"{last}, {PASSES}"] = (questions[last][0], recipe.hole)
    questions = {way: question for way, question in questions.items() if way not in answers}
    if not questions:
        return
    if run is None:
        checkpoint = open_checkpoint(recipe.model)
        mask_id = mask_of(checkpoint, recipe.mask)
        pattern, lookback, block = READINGS[name.rpartition(" ")[2]]
        network = AlignedNetwork(with_mask(checkpoint, mask_id).requires_grad_(False), pattern, lookback).eval()
    else:
        opened = open_published(run / "export")
        assert isinstance(opened.network, AlignedNetwork)
        assert opened.mask_id is not None
        network, mask_id = opened.network, opened.mask_id
        block = recipe.family.build(opened.vocab, mask_id).block
        if opened.family == "idlm":
            record["runs"][name]["drafting"] = drafting(opened, windows)
    if run is not None and "held_out_loss" not in record["runs"][name]:
        record["runs"][name]["held_out_loss"] = losses(recipe, network, mask_id, windows[: recipe.windows])
    model, begun = model_of(network, mask_id, block), time.process_time()
    for way, (holes, steps) in questions.items():
        found = infilled(model, windows, holes, steps)
        answers[way] = {"share": found.share, "error": found.error, "tokens": found.tokens}
    answers["cpu_seconds"] = round(answers["cpu_seconds"] + time.process_time() - begun, 1)
    record["found"][name] = answers
    write_json(out, record)
    print(name, answers, flush=True)


def drafting(opened: PublishedModel, windows: torch.Tensor) -> dict[str, float]:
    """Tokens won per pass behind the first half of sixteen windows, each checked by the network itself."""
    prompts = [row[: len(row) // 2] for row in windows[:16].tolist()]
    written = [write(opened, [prompt], 32, named(opened, "idlm")) for prompt in prompts]
    tokens, passes = sum(len(one.texts[0]) for one in written), sum(one.passes for one in written)
    return {"tokens": tokens, "passes": passes, "tokens_per_pass": round(tokens / passes, 3)}


def losses(recipe: Adaptation, network: AlignedNetwork, mask_id: int, windows: torch.Tensor) -> dict[str, float]:
    """The family's loss of the windows under one and the same noise, before and after training."""
    base = with_mask(open_checkpoint(recipe.model), mask_id).requires_grad_(False)
    family = recipe.family.build(base.config.vocab, mask_id)
    batch = Batch(windows, torch.ones_like(windows, dtype=torch.bool))
    both = {"before": AlignedNetwork(base, network.pattern, network.lookback), "after": network}
    objective = family.bound or family.objective
    with torch.no_grad():
        return {name: float(objective(TrainableDecoder(one), batch, Rng(0)).total) for name, one in both.items()}


def table(record: dict[str, Any]) -> str:
    """The answers as Markdown."""
    names = list(dict.fromkeys(key for found in record["found"].values() for key in found if "cpu" not in key))
    names.remove("windows")
    rows = [f"| model | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
    for name, found in record["found"].items():
        cells = [_cell(found.get(key)) for key in names]
        rows.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(rows)


def _cell(found: dict[str, float] | None) -> str:
    return "" if found is None else f"{100 * found['share']:.1f} ± {100 * found['error']:.1f} %"


def draw(record: dict[str, Any], path: Path) -> None:
    """Losses over their own beginning, and accuracy along training."""
    from matplotlib.figure import Figure

    answered = record["found"]["un-adapted, full"].items()
    names = [key for key, value in answered if isinstance(value, dict) and not key.endswith(PASSES)]
    figure = Figure(figsize=(4 * (1 + len(names)), 3.6), layout="constrained", facecolor="white")
    loss, *panels = figure.subplots(1, 1 + len(names))
    for number, (kind, facts) in enumerate(record["runs"].items()):
        colour, aside = COLOURS[kind], 150 * number  # side by side, or the bars of errors would hide one another
        steps = [step * facts["tokens_per_step"] for step, _ in facts["loss"]]
        smooth = averaged([value for _, value in facts["loss"]])
        loss.plot(steps, [value / smooth[0] for value in smooth], color=colour, label=kind)
        for axes, name in zip(panels, names, strict=True):
            at = [one["step"] * facts["tokens_per_step"] + aside for one in facts["evaluations"]]
            share = [100 * one[name] for one in facts["evaluations"]]
            error = [100 * one[f"{name}, error"] for one in facts["evaluations"]]
            axes.errorbar(at, share, error, color=colour, label=kind, capsize=2)
    loss.set_title("loss, to its own beginning", loc="left", fontsize=10, color=INK)
    for axes, name in zip(panels, names, strict=True):
        level = 100 * record["found"]["un-adapted, causally"][name]["share"]
        axes.axhline(level, color=GREY, lw=1, ls="--", label="un-adapted, left to right (test part)")
        axes.set_title(f"% of tokens found, {name}", loc="left", fontsize=10, color=INK)
        axes.set_ylim(0)
    for axes in (loss, *panels):
        axes.set_xlabel("tokens trained on", color=INK)
        axes.spines[["top", "right"]].set_visible(False)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False, fontsize=9)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)


def averaged(values: list[float], decay: float = 0.9) -> list[float]:
    """Values smoothed from the mean of the first five on."""
    level = sum(values[:5]) / len(values[:5])
    smooth = []
    for value in values:
        level = decay * level + (1 - decay) * value
        smooth.append(level)
    return smooth


if __name__ == "__main__":
    main()
