"""The whole benchmark: load every engine, race them over the prompts, ask the questions, judge the answers.

What comes out is one record of plain values; `report.py` prints it and `plot.py` draws it.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from mezzotint.checkpoints import Checkpoint, open_checkpoint
from mezzotint.data.tokenizer import Tokenizer
from mezzotint.errors import ConfigError
from mezzotint.evaluate.bench import record
from mezzotint.evaluate.bench.engines import BenchStart, BenchTask
from mezzotint.evaluate.bench.prompts import prompts, questions
from mezzotint.evaluate.bench.setup import Bench, Raced, check
from mezzotint.evaluate.bench.speed import dealt, measure, turned
from mezzotint.evaluate.bench.worker import EngineFailed, Worker
from mezzotint.models.resolve import CAUSAL, resolve

WARM_UP = 32
"""New tokens of the uncounted answers after loading."""
GREETING = [{"role": "user", "content": "Hello, are you ready?"}]
"""The uncounted prompt; not one of the measured ones."""
QUICK = 10.0
"""Engines that start in fewer seconds are started twice, and the second time counts: their files come from memory."""

Tell = Callable[[str, int, int], None]
"""Progress: (what is being done, units done, units in all)."""
Save = Callable[[dict[str, Any]], None]
"""Called with the record after every round, so that an interrupted run leaves something."""


def run(bench: Bench, command: Sequence[str], tell: Tell, save: Save) -> dict[str, Any]:
    """Run everything.

    Args:
        bench: what is measured.
        command: what starts an engine's process; see `worker.Worker`.
        tell: hears of progress.
        save: gets the record so far.

    Raises:
        ConfigError: an unknown engine, more prompts than there are, or no engine that could be measured.
        CheckpointError: the model is not there.
    """
    check(bench)
    found = resolve(bench.model)
    if found.kind != CAUSAL:
        raise ConfigError(f"{bench.model} is a {found.kind} model: the bench compares causal ones with other engines")
    checkpoint = open_checkpoint(bench.model)
    tokenizer = Tokenizer.from_spec(checkpoint.tokenizer)
    chosen = prompts(bench.prompts)
    tasks = {p.id: BenchTask(p.messages, tokenizer.chat(list(p.messages)), bench.new_tokens) for p in chosen}
    greeting = BenchTask(GREETING, tokenizer.chat(GREETING), WARM_UP)
    raced = Raced(bench, chosen, questions(bench.questions), tasks, greeting)
    for question in raced.questions:
        turn = [{"role": "user", "content": question.question}]
        raced.asked[question.id] = BenchTask(turn, tokenizer.chat(turn), bench.question_tokens)
    quizzed = sum(name in bench.asked for name in bench.engines)
    steps = len(bench.engines) * (1 + len(chosen)) + quizzed * len(raced.questions)
    with contextlib.ExitStack() as stack:
        workers = _load(raced, checkpoint, command, lambda what, done: tell(what, done, steps), stack)
        if not workers:
            raise ConfigError(f"no engine could be measured: {'; '.join(raced.missing.values())}")
        at, saved = len(bench.engines), 0
        for number, what in _race(raced, workers):
            if number > saved:
                save(record.raw(raced, tokenizer))
                saved = number
            at += 1
            tell(what, at, steps)
        for what in _question(raced, workers):
            at += 1
            tell(what, at, steps)
    tell("judging the answers", steps, steps)
    made = record.raw(raced, tokenizer)
    save(made)
    made |= record.judged(raced, made, checkpoint, lambda what: tell(what, steps, steps))
    save(made)
    return made


def _load(
    raced: Raced,
    checkpoint: Checkpoint,
    command: Sequence[str],
    tell: Callable[[str, int], None],
    stack: contextlib.ExitStack,
) -> dict[str, Worker]:
    """Every engine that comes up, warmed up."""
    bench, workers = raced.bench, {}
    context = max(len(t.ids) + t.limit for t in (*raced.tasks.values(), *raced.asked.values(), raced.greeting))
    start = BenchStart(checkpoint.path, bench.model, bench.threads, checkpoint.tokenizer.eos_ids, context)
    for number, name in enumerate(bench.engines):
        tell(f"loading {name}", number)
        try:
            worker = stack.enter_context(contextlib.closing(Worker(command, name, start)))
            first_seconds = worker.start_seconds
            if first_seconds < QUICK:
                worker.close()
                worker = stack.enter_context(contextlib.closing(Worker(command, name, start)))
            for _ in range(2):
                worker.write(raced.greeting)
        except EngineFailed as failure:
            raced.missing[name] = str(failure)
            continue
        workers[name] = worker
        raced.timings[name], raced.replies[name] = [], {}
        raced.loads[name] = {
            **worker.about,
            "first_start_seconds": first_seconds,
            "start_seconds": worker.start_seconds,
            "load_seconds": worker.load_seconds,
            "load_peak_bytes": worker.load_peak,
        }
    return workers


def _race(raced: Raced, workers: dict[str, Worker]) -> Iterator[tuple[int, str]]:
    """Every round; yields the round and what was done after each answer."""
    hands = dealt([(p.id, raced.tasks[p.id]) for p in raced.prompts], raced.bench.rounds)
    for number, hand in enumerate(hands):
        for name in turned(list(workers), number):
            try:
                for timing in measure(workers[name].write, hand, number, raced.greeting):
                    raced.timings[name].append(timing)
                    yield number, f"round {number + 1} of {len(hands)}: {name}"
            except EngineFailed as failure:
                _drop(raced, workers, name, failure)
    for name, worker in list(workers.items()):
        try:
            raced.loads[name]["peak_bytes"] = worker.peak()
        except EngineFailed as failure:
            _drop(raced, workers, name, failure)


def _question(raced: Raced, workers: dict[str, Worker]) -> Iterator[str]:
    """Every question to the engines that are asked, untimed; yields what was done after each answer."""
    for name in [name for name in workers if name in raced.bench.asked]:
        try:
            for question, task in raced.asked.items():
                raced.replies[name][question] = workers[name].write(task).tokens
                yield f"questions: {name}"
        except EngineFailed as failure:
            _drop(raced, workers, name, failure)


def _drop(raced: Raced, workers: dict[str, Worker], name: str, failure: EngineFailed) -> None:
    """Go on without an engine that broke; half a measurement is none."""
    workers.pop(name).close()
    raced.missing[name] = str(failure)
    for kept in (raced.loads, raced.timings, raced.replies):
        kept.pop(name, None)
