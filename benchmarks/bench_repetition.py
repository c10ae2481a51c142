"""How much the default model repeats itself, and what holding it back costs: everyday prompts, several settings.

    python benchmarks/bench_repetition.py                          # all settings, about half an hour on one core
    python benchmarks/bench_repetition.py --setting sampled --setting "sampled, penalty 1.1"

Writes benchmarks/results/repetition_<machine>.json after every setting, with every answer, and prints a line for each:
the share of answers that run to the limit, the mean share of repeated 4-grams (rep-4) with its interval, the share of
answers above 0.3, and the short questions of `mezzotint bench` that are answered right under the same setting.
"""

import argparse
import json
from collections import Counter
from pathlib import Path
from typing import Any

from sentences import guarded

import mezzotint
from mezzotint.evaluate.bench.exact_match import right
from mezzotint.evaluate.bench.machine import commit, machine, slug, versions
from mezzotint.evaluate.bench.prompts import questions
from mezzotint.evaluate.bench.text_statistics import bootstrap, repetition, wilson

HERE = Path(__file__).parent
GREEDY = {"temperature": 0.0, "top_p": 1.0, "repetition_penalty": 1.0, "no_repeat_ngram_size": 0}
SAMPLED = {**GREEDY, "temperature": 0.2, "top_p": 0.9}
SETTINGS: dict[str, dict[str, Any]] = {
    "greedy": GREEDY,
    "sampled": SAMPLED,
    "sampled, penalty 1.1": {**SAMPLED, "repetition_penalty": 1.1},
    "sampled, penalty 1.05": {**SAMPLED, "repetition_penalty": 1.05},
    "sampled, penalty 1.2": {**SAMPLED, "repetition_penalty": 1.2},
    "greedy, penalty 1.1": {**GREEDY, "repetition_penalty": 1.1},
    "sampled, no 12-gram twice": {**SAMPLED, "no_repeat_ngram_size": 12},
    "sampled, penalty 1.05, no 12-gram twice": {**SAMPLED, "repetition_penalty": 1.05, "no_repeat_ngram_size": 12},
    "diffusion, greedy": {**GREEDY, "mode": "diffusion"},
    "diffusion, sampled": {**SAMPLED, "mode": "diffusion"},
    "diffusion, sampled, penalty 1.05": {**SAMPLED, "repetition_penalty": 1.05, "mode": "diffusion"},
    "diffusion, sampled, penalty 1.1": {**SAMPLED, "repetition_penalty": 1.1, "mode": "diffusion"},
}
"""Name -> options; `verify`, whose text is that of `ar`, where no mode is named.  Nothing is left to the checkpoint."""
TOGETHER = 8
"""Prompts that are written at once."""


def main() -> None:
    """Measure, write, print."""
    parser = argparse.ArgumentParser(description="Repetition of the default model on everyday prompts.")
    parser.add_argument("--setting", action="append", metavar="NAME", choices=SETTINGS, help="only these; repeatable")
    parser.add_argument("--tokens", type=int, default=512, help="most new tokens of an answer")
    parser.add_argument("--questions", type=int, default=240, help="short questions asked under each setting")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=HERE / "results" / f"repetition_{slug(machine()['cpu'])}.json")
    asked = parser.parse_args()
    prompts = [json.loads(line) for line in (HERE / "everyday.jsonl").read_text("utf-8").splitlines()]
    model = mezzotint.load(threads=asked.threads)
    record = json.loads(asked.out.read_text("utf-8")) if asked.out.exists() else {"settings": {}}
    about = {"model": model.name, "tokens": asked.tokens, "questions": asked.questions}
    record |= about | {"machine": machine(), "versions": versions(), "commit": commit()}
    for name in asked.setting or SETTINGS:
        options = SETTINGS[name]
        answers = written(model, [row["prompt"] for row in prompts], asked.tokens, options)
        rows = [{"id": row["id"], **answer} for row, answer in zip(prompts, answers, strict=True)]
        exact = correct(model, asked.questions, options)
        record["settings"][name] = {"options": options, **figures(rows), "exact": exact, "answers": rows}
        asked.out.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", "utf-8")
        print(line(name, record["settings"][name]), flush=True)


def written(model: mezzotint.Model, prompts: list[str], tokens: int, options: dict[str, Any]) -> list[dict[str, Any]]:
    """An answer to each prompt, with its number as seed."""
    found = []
    for first in range(0, len(prompts), TOGETHER):
        few = prompts[first : first + TOGETHER]
        for answer in model.generate(few, max_new_tokens=tokens, seed=first, **options):
            rep = round(repetition(answer.token_ids, 4), 4)
            found.append({"finish": answer.finish_reason, "tokens": answer.tokens, "rep_4": rep, "text": answer.text})
    return found


def correct(model: mezzotint.Model, count: int, options: dict[str, Any]) -> dict[str, Any]:
    """Exact match on short questions: of all, and of each kind."""
    asked = questions(count)
    answers = written(model, [question.question for question in asked], 32, options)
    hits = [right(question, answer["text"]) for question, answer in zip(asked, answers, strict=True)]
    kinds = Counter(question.kind for question in asked)
    good = Counter(question.kind for question, hit in zip(asked, hits, strict=True) if hit)
    by_kind = {kind: [good[kind], kinds[kind]] for kind in sorted(kinds)}
    return {"right": sum(hits), "asked": len(hits), "share": wilson(sum(hits), len(hits)).to_dict(), "by_kind": by_kind}


def figures(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """What the answers of a setting come to."""
    reps = [row["rep_4"] for row in rows]
    cut = sum(row["finish"] == "length" for row in rows)
    return {
        "to_the_limit": cut,
        "repeating": sum(rep > 0.3 for rep in reps),
        "of": len(rows),
        "rep_4": bootstrap(reps).to_dict(),
        "mean_tokens": sum(row["tokens"] for row in rows) / len(rows),
    }


def line(name: str, found: dict[str, Any]) -> str:
    """One setting in one line."""
    rep, exact = found["rep_4"], found["exact"]
    return (
        f"{name:40} to the limit {found['to_the_limit']:2} of {found['of']}, rep-4 {rep['mean']:.3f} "
        f"({rep['low']:.3f} to {rep['high']:.3f}), above 0.3 {found['repeating']:2}, "
        f"{found['mean_tokens']:.0f} tokens, questions right {exact['right']} of {exact['asked']}"
    )


if __name__ == "__main__":
    guarded(main)
