"""The loop learns, and nothing that happens to a run may change or harm what it learns."""

import json
import os
import resource
import signal

import pytest
import torch
from toy import Line, network, task

from mezzotint.errors import CheckpointError, ConfigError, TrainingError
from mezzotint.objectives.base import Loss
from mezzotint.train import checkpoint
from mezzotint.train.loop import run
from mezzotint.train.optim import Optim
from mezzotint.train.task import Task, Train

FAST = Train(steps=40, log_every=1, optim=Optim(lr=1e-2), ema=0.9)


def lines(folder, kind="train"):
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [record for record in records if record["kind"] == kind]


def numbers(folder):
    return [{k: v for k, v in line.items() if k not in ("seconds", "tokens_per_second")} for line in lines(folder)]


def weights(folder):
    return {p.name: p.read_bytes() for p in checkpoint.saved(folder / "checkpoints")[-1].glob("*.safetensors")}


class Stopping(Line):
    """Sends this process a signal when a given micro-batch is asked for."""

    def __init__(self, at, number=signal.SIGTERM):
        super().__init__()
        self.at, self.number = at, number

    def batch(self, step, seed):
        if step == self.at:
            os.kill(os.getpid(), self.number)
        return super().batch(step, seed)


def test_loss_falls_and_every_step_is_recorded(tmp_path):
    outcome = run(task(), FAST, tmp_path)
    records = lines(tmp_path)
    assert (outcome.reason, outcome.step) == ("finished", 40)
    assert [record["step"] for record in records] == list(range(1, 41))
    assert records[-1]["loss"] < 0.5 * records[0]["loss"]
    assert {"lr", "grad_norm", "tokens", "tokens_per_second", "largest", "used"} <= records[0].keys()


@pytest.mark.parametrize("accumulate", [1, 3])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stopped_and_resumed_run_is_bit_identical(tmp_path, accumulate, number):
    train = Train(steps=20, log_every=3, optim=Optim(lr=1e-2), ema=0.9, accumulate=accumulate)
    run(task(), train, tmp_path / "whole")
    stopped = run(task(data=Stopping(7 * accumulate, number)), train, tmp_path / "parts")
    assert (stopped.reason, stopped.step, stopped.signal) == ("interrupted", 8, number)
    other = network()
    with torch.no_grad():
        for parameter in checkpoint.trainable(other).values():
            parameter.add_(1)
    run(task(network=other), train, tmp_path / "parts", resume=True)
    assert numbers(tmp_path / "parts") == numbers(tmp_path / "whole")
    assert weights(tmp_path / "parts") == weights(tmp_path / "whole")


def test_a_killed_run_repeats_the_steps_after_its_last_checkpoint(tmp_path):
    class Killed(Exception):
        pass

    class Dying(Line):
        def batch(self, step, seed):
            if step == 13:
                raise Killed
            return super().batch(step, seed)

    train = Train(steps=20, log_every=1, optim=Optim(lr=1e-2), save_every=5)
    with pytest.raises(Killed):
        run(task(data=Dying()), train, tmp_path / "parts")
    assert len(lines(tmp_path / "parts")) == 13
    with (tmp_path / "parts" / "metrics.jsonl").open("a") as file:
        file.write('{"kind": "train", "st')
    run(task(), train, tmp_path / "parts", resume=True)
    run(task(), train, tmp_path / "whole")
    assert numbers(tmp_path / "parts") == numbers(tmp_path / "whole")


def test_accumulated_micro_batches_equal_one_large_batch(tmp_path):
    class Halves(Line):
        def batch(self, step, seed):
            whole = Line(size=16).batch(step // 2, seed)
            part = slice(0, 4) if step % 2 == 0 else slice(4, 16)
            return type(whole)(whole.x[part], whole.y[part])

    def plain(net, batch, rng):
        error = (net(batch.x) - batch.y) ** 2
        return Loss(error.mean(), torch.tensor(float(len(batch.x))))

    nets = [network(dropout=0) for _ in range(2)]
    for net, data, accumulate in zip(nets, (Line(), Halves()), (1, 2), strict=True):
        train = Train(steps=5, optim=Optim(lr=1e-2), accumulate=accumulate)
        run(Task(net, plain, data), train, tmp_path / str(accumulate))
    for one, two in zip(nets[0].parameters(), nets[1].parameters(), strict=True):
        torch.testing.assert_close(one, two, atol=1e-5, rtol=1e-4)


def test_only_parameters_that_learn_are_changed_and_saved(tmp_path):
    net = network()
    before = net[0].weight.clone()
    run(task(network=net), FAST, tmp_path)
    assert torch.equal(net[0].weight, before)
    assert not any("0.weight" in name for name in checkpoint.trainable(net) if name.startswith("0."))


def test_nan_stops_with_the_state_before_it(tmp_path):
    train = Train(steps=20, log_every=1, save_every=5, optim=Optim(lr=1e-2), seed=3)
    with pytest.raises(TrainingError, match=r"nan on micro-batch 12 at step 12 \(batch seed 3\)"):
        run(task(data=Line(poison=12)), train, tmp_path)
    kept = checkpoint.saved(tmp_path / "failed")[-1]
    net = network()
    checkpoint.load_weights(kept, net)
    assert all(bool(torch.isfinite(p).all()) for p in net.parameters())
    assert [path.name for path in checkpoint.saved(tmp_path / "checkpoints")] == ["step-00000005", "step-00000010"]
    assert lines(tmp_path, "event")[-1]["seed"] == 3


def test_broken_weights_never_become_a_checkpoint(tmp_path):
    class Breaking(Line):
        def __init__(self, net):
            super().__init__()
            self.net = net

        def batch(self, step, seed):
            if step == 9:
                with torch.no_grad():
                    self.net[3].bias[0] = torch.inf  # tanh hides it from the loss
            return super().batch(step, seed)

    net = network()
    with pytest.raises(TrainingError, match="no longer finite"):
        run(task(network=net, data=Breaking(net)), Train(steps=20, save_every=5, optim=Optim(lr=1e-3)), tmp_path)
    assert [path.name for path in checkpoint.saved(tmp_path / "checkpoints")] == ["step-00000005"]


def test_a_disk_that_refuses_keeps_the_good_checkpoint(tmp_path):
    run(task(), Train(steps=5), tmp_path)
    good = weights(tmp_path)
    former = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, former[1]))  # the optimiser's file is larger
    try:
        with pytest.raises(CheckpointError, match="earlier checkpoints are unharmed"):
            run(task(), Train(steps=10, save_every=2), tmp_path, resume=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, former)
    assert weights(tmp_path) == good
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step-00000005"]
    assert [line["step"] for line in lines(tmp_path, "event") if line["event"] == "save failed"] == [6, 8, 10]


def test_only_the_newest_checkpoints_are_kept(tmp_path):
    run(task(), Train(steps=9, save_every=2, keep=3), tmp_path)
    assert [path.name[-1] for path in checkpoint.saved(tmp_path / "checkpoints")] == ["6", "8", "9"]


def test_a_checkpoint_of_another_network_is_refused(tmp_path):
    run(task(), Train(steps=2), tmp_path)
    other = torch.nn.Sequential(torch.nn.Linear(4, 1))
    with pytest.raises(CheckpointError, match="belongs to another network"):
        run(task(network=other), Train(steps=4), tmp_path, resume=True)


def test_a_truncated_checkpoint_is_one_sentence(tmp_path):
    run(task(), Train(steps=2), tmp_path)
    file = checkpoint.saved(tmp_path / "checkpoints")[-1] / "optimizer.safetensors"
    file.write_bytes(file.read_bytes()[:50])
    with pytest.raises(CheckpointError, match="cannot read the checkpoint"):
        run(task(), Train(steps=4), tmp_path, resume=True)


def test_evaluation_and_export_see_the_averaged_weights(tmp_path):
    seen = []

    def evaluate(net):
        assert not net.training
        seen.append(net[5].bias.clone())
        return {"score": 1.5, "sample": "text [not markup]"}

    def export(net, folder):
        (folder / "bias").write_text(str(float(net[5].bias)))

    net = network()
    outcome = run(task(network=net, evaluate=evaluate, export=export), FAST, tmp_path)
    assert outcome.evaluation["score"] == 1.5
    assert not torch.equal(seen[-1], net[5].bias)
    averaged = network()
    checkpoint.load_weights(checkpoint.saved(tmp_path / "checkpoints")[-1], averaged)
    assert torch.equal(seen[-1], averaged[5].bias)
    assert (tmp_path / "export" / "bias").read_text() == str(float(seen[-1]))
    assert lines(tmp_path, "eval")[-1]["sample"] == "text [not markup]"


def test_a_run_limited_by_time_ends_and_goes_on_where_it_was(tmp_path):
    train = Train(steps=None, max_minutes=0.5 / 60, log_every=1)
    outcome = run(task(), train, tmp_path)
    assert 0.5 <= outcome.seconds < 5
    used = [record["used"] for record in lines(tmp_path)]
    assert used == sorted(used)
    assert used[-1] == 1
    again = run(task(), train, tmp_path, resume=True)
    assert again.step == outcome.step


def test_a_run_without_an_end_or_parameters_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"train\.steps or train\.max_minutes"):
        run(task(), Train(steps=None), tmp_path)
    with pytest.raises(ConfigError, match="nothing to train"):
        run(task(network=network().requires_grad_(False)), FAST, tmp_path)
    with pytest.raises(ConfigError, match="cannot use the device"):
        run(task(), Train(device="abacus"), tmp_path)


def test_bfloat16_trains_too(tmp_path):
    run(task(), Train(steps=30, precision="bfloat16", optim=Optim(lr=1e-2), log_every=1), tmp_path)
    assert lines(tmp_path)[-1]["loss"] < lines(tmp_path)[0]["loss"]
