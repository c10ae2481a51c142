"""The training loop: one for every objective.

It knows (network, batch, rng) -> Loss and nothing of noise, rewards or images.  Every draw of a step is a function of
the seed and the step's number, so a run that is stopped and resumed meets the same numbers: on a CPU, bit for bit.
"""

import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch

from mezzotint.errors import CheckpointError, ConfigError, TrainingError
from mezzotint.rng import Rng
from mezzotint.train import checkpoint
from mezzotint.train.device import pick_device, to_device
from mezzotint.train.ema import Average
from mezzotint.train.lock import alone
from mezzotint.train.metrics import MetricsLog, ProgressDisplay, Window, scalars
from mezzotint.train.run_files import saved
from mezzotint.train.signals import Interrupt
from mezzotint.train.task import Task, Train


@dataclass(frozen=True)
class Outcome:
    """How a session of training ended."""

    reason: Literal["finished", "interrupted", "exported"]
    step: int
    """Optimiser steps done, over all sessions."""
    seconds: float
    """Wall-clock time used, over all sessions."""
    evaluation: dict[str, float | str] = field(default_factory=dict)
    """The last evaluation."""
    signal: int | None = None
    """The signal that interrupted."""


def run(
    task: Task,
    train: Train,
    folder: Path,
    *,
    title: str = "training",
    resume: bool = False,
    opened: Callable[[], None] = lambda: None,
) -> Outcome:
    """Train, evaluate, save and export as `train` says, with records in `folder`.

    With `resume`, go on from the newest checkpoint in `folder`, or begin where there is none.  SIGINT or SIGTERM ends
    the step under way, saves and returns.  `opened` is called once the checkpoint is known to fit, before any writing.

    Raises:
        ConfigError: nothing to train, no end given, or a folder where another training is going on.
        CheckpointError: the checkpoint to resume does not fit, or the final state cannot be saved.
        TrainingError: the loss, gradient or weights are no longer finite; the state is kept in `folder`/failed.
    """
    with alone(folder), ProgressDisplay(title) as display, Interrupt() as interrupt:
        session = _Session(task, train, folder, display)
        session.begin(resume, opened)
        if train.eval_first and not session.progress.step:
            session.evaluate()
        while not session.done() and not interrupt.signal:
            session.step()
            session.tend()
        if interrupt.signal:
            session.save(final=True)
            display.say(f"interrupted: step {session.progress.step} is saved")
            return session.outcome("interrupted", interrupt.signal)
        session.finish()
        return session.outcome("finished", None)


def export(task: Task, train: Train, folder: Path, *, title: str = "exporting") -> Outcome:
    """End a run where its newest checkpoint is: evaluate it and export the network, without a further step.

    Raises:
        ConfigError: no checkpoint, a task that has nothing to export, or a training that is still going on.
        CheckpointError: a checkpoint of another task, or one that cannot be read.
    """
    if task.export is None or not saved(folder / "checkpoints"):
        lacks = "its recipe exports nothing" if task.export is None else "it has saved no checkpoint"
        raise ConfigError(f"cannot export the run {folder}: {lacks}; go on with mezzotint train {folder} --resume")
    with alone(folder), ProgressDisplay(title) as display:
        session = _Session(task, train, folder, display)
        session.begin(True, lambda: None)
        session.finish("exported")
        return session.outcome("exported", None)


class _Session:
    """One process's share of a run."""

    def __init__(self, task: Task, train: Train, folder: Path, display: ProgressDisplay) -> None:
        if train.steps is None and train.max_minutes is None:
            raise ConfigError("cannot train without an end: set train.steps or train.max_minutes")
        self.task, self.train, self.folder, self.display = task, train, folder, display
        self.device = pick_device(train.device)
        self.network = task.network.to(self.device).train()
        self.parameters = checkpoint.trainable(self.network)
        if not self.parameters:
            raise ConfigError("nothing to train: no parameter of the network requires a gradient")
        if train.compile:
            self.network.compile()
        self.optimizer = train.optim.build(self.parameters)
        self.average = Average(self.parameters, train.ema) if train.ema else None
        self.progress = checkpoint.Progress()
        self.evaluation: dict[str, float | str] = {}
        self.evaluated_at = self.saved_at = -1

    def begin(self, resume: bool, opened: Callable[[], None]) -> None:
        """Load the newest checkpoint if asked to, and start the clock and the records."""
        found = saved(self._checkpoints()) if resume else []
        if found:
            self.progress = checkpoint.load(found[-1], self.parameters, self.optimizer, self.average)
            self.saved_at = self.progress.step
            if self.progress.identity != self.task.identity:
                raise CheckpointError(
                    f"cannot go on with {found[-1]}: it was trained on another text, vocabulary or family; "
                    "give back what it began with, or begin anew in another folder"
                )
        opened()
        self.folder.mkdir(parents=True, exist_ok=True)
        if self.task.describe is not None:
            self._checkpoints().mkdir(exist_ok=True)
            self.task.describe(self.network, self._checkpoints())
        self.progress.identity = self.task.identity
        self.window = Window(self.progress.window)
        self.journal = MetricsLog(self.folder / "metrics.jsonl", self.progress.step)
        self.started = self.last_save = time.monotonic()
        self.before = self.progress.seconds
        self.first_step = self.progress.step
        count = sum(p.numel() for p in self.parameters.values())
        how = f"going on from step {self.progress.step}" if found else "starting"
        self.display.say(f"{how}: {count:,} trained parameters on {self.device}, records in {self.folder}")
        self.journal.write("event", self.progress.step, {"event": "resumed" if found else "started"})

    def done(self) -> bool:
        return self._used(self.progress.step, self._seconds()) >= 1

    def step(self) -> None:
        """One optimiser step."""
        train, step, began = self.train, self.progress.step, time.monotonic()
        rate = train.optim.set_rate(self.optimizer, self._used(step + 1, self._seconds()))
        local = Window()
        for part in range(train.accumulate):
            values, count = self._micro(step * train.accumulate + part)
            local.add(values, count, 0.0)
        count = local.sums["count"]
        norm = self._normalise_gradient(count if train.accumulate > 1 else None)
        if not math.isfinite(norm):
            self._fail(f"the gradient's norm became {norm}")
        self.optimizer.step()
        # fused optimisers do not count as changes, and whoever keeps weights in another form goes by that count
        torch.autograd.graph.increment_version(self.parameters.values())
        self.optimizer.zero_grad(set_to_none=True)
        if self.average:
            self.average.update()
        seconds = time.monotonic() - began
        named = {name: total for name, total in local.sums.items() if name not in ("count", "seconds")}
        means = {name: total / max(count, 1.0) for name, total in named.items()}
        self.window.add({**means, "grad_norm": norm}, count, seconds)
        self.progress.step, self.progress.tokens = step + 1, self.progress.tokens + int(count)
        self.progress.seconds = self._seconds()
        self._report(rate, means, count / max(seconds, 1e-9))

    def tend(self) -> None:
        """Evaluate and save where the step calls for it."""
        step, train = self.progress.step, self.train
        if train.eval_every and step % train.eval_every == 0:
            self.evaluate()
        late = train.save_minutes and time.monotonic() - self.last_save > 60 * train.save_minutes
        if late or (train.save_every and step % train.save_every == 0):
            self.save()

    def evaluate(self) -> None:
        """Run the task's evaluation on the averaged weights, show and record it."""
        if self.task.evaluate is None or self.evaluated_at == self.progress.step:
            return
        self.evaluated_at = self.progress.step
        self.network.eval()
        with torch.no_grad(), self._averaged():
            self.evaluation = self.task.evaluate(self.network)
        self.network.train()
        shown = "  ".join(f"{name} {what:.4g}" for name, what in self.evaluation.items() if not isinstance(what, str))
        self.display.say(f"step {self.progress.step}  evaluation  {shown}")
        for name, value in self.evaluation.items():
            if isinstance(value, str):
                self.display.say(f"  {name}: {value}")
        self.journal.write("eval", self.progress.step, self.evaluation)

    def save(self, final: bool = False) -> None:
        """Write a checkpoint; a disk that refuses is only worth a warning while training goes on."""
        if self.saved_at == self.progress.step:
            return
        if not all(bool(torch.isfinite(p).all()) for p in self.parameters.values()):
            self._fail("a weight is no longer finite")
        self.last_save = time.monotonic()
        self.progress.window, self.progress.seconds = self.window.sums, self._seconds()
        try:
            checkpoint.save(
                self._checkpoints(), self.parameters, self.optimizer, self.average, self.progress, self.train.keep
            )
            self.saved_at = self.progress.step
        except CheckpointError as error:
            if final:
                raise
            self.display.say(f"warning: {error}")
            self.journal.write("event", self.progress.step, {"event": "save failed", "error": str(error)})

    def finish(self, event: str = "finished") -> None:
        """Evaluate, save and export the network as it is."""
        self.evaluate()
        self.save(final=True)
        if self.task.export is not None:
            target = self.folder / "export"
            target.mkdir(exist_ok=True)
            self.network.eval()
            with torch.no_grad(), self._averaged():
                self.task.export(self.network, target)
        self.journal.write("event", self.progress.step, {"event": event, "seconds": round(self._seconds(), 1)})

    def outcome(self, reason: Literal["finished", "interrupted", "exported"], signal: int | None) -> Outcome:
        return Outcome(reason, self.progress.step, self._seconds(), self.evaluation, signal)

    def _micro(self, number: int) -> tuple[dict[str, float], float]:
        """Forward and backward of one micro-batch: its means and their count."""
        torch.manual_seed(Rng(self.train.seed).fork(number).seed)  # for dropout; everything else draws from rng
        batch = to_device(self.task.data.batch(number, self.train.seed), self.device)
        with self._precision():
            loss = self.task.objective(self.network, batch, Rng(self.train.seed, number))
        values, count = scalars(loss)
        if not math.isfinite(values["loss"]):
            self._fail(f"the loss became {values['loss']} on micro-batch {number}")
        (loss.total * loss.count if self.train.accumulate > 1 else loss.total).backward()
        return values, count

    def _normalise_gradient(self, count: float | None) -> float:
        """Divide the gradient by `count`, clip it, and return its norm before clipping."""
        gradients = [p.grad for p in self.parameters.values() if p.grad is not None]
        if count is not None:
            torch._foreach_div_(gradients, max(count, 1.0))
        norm = torch.nn.utils.get_total_norm(gradients)
        if self.train.clip is not None:
            torch._foreach_mul_(gradients, (self.train.clip / (norm + 1e-6)).clamp(max=1.0))
        return float(norm)

    def _report(self, rate: float, means: dict[str, float], speed: float) -> None:
        step, used = self.progress.step, self._used(self.progress.step, self._seconds())
        self.display.step(step, {**means, "tokens_per_second": speed}, used, self._left(used))
        if step % self.train.log_every == 0:
            extra = {"lr": rate, "tokens": self.progress.tokens, "seconds": round(self._seconds(), 2), "used": used}
            self.journal.write("train", step, {**self.window.close(), **extra})

    def _left(self, used: float) -> float:
        begun = self._used(self.first_step, self.before)
        gained = used - begun
        return (time.monotonic() - self.started) * (1 - used) / gained if gained > 0 else math.inf

    def _fail(self, what: str) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        self.progress.window = self.window.sums
        kept = checkpoint.save(
            self.folder / "failed", self.parameters, self.optimizer, self.average, self.progress, keep=1
        )
        self.journal.write("event", self.progress.step, {"event": "failed", "error": what, "seed": self.train.seed})
        raise TrainingError(
            f"{what} at step {self.progress.step} (batch seed {self.train.seed}): training stopped before the update, "
            f"the state is kept in {kept}; try a lower train.optim.lr, or resume from the last checkpoint"
        )

    def _used(self, step: int, seconds: float) -> float:
        by_steps = step / self.train.steps if self.train.steps else 0.0
        by_time = seconds / (60 * self.train.max_minutes) if self.train.max_minutes else 0.0
        return min(max(by_steps, by_time), 1.0)

    def _seconds(self) -> float:
        return self.before + time.monotonic() - self.started

    def _averaged(self) -> AbstractContextManager[None]:
        return self.average.applied() if self.average else nullcontext()

    def _precision(self) -> AbstractContextManager[Any]:
        on = self.train.precision == "bfloat16"
        return torch.autocast(self.device.type, torch.bfloat16) if on else nullcontext()

    def _checkpoints(self) -> Path:
        return self.folder / "checkpoints"
