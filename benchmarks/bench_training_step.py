"""What one training step costs: masked and block diffusion against autoregression, in tokens per CPU-second.

    OMP_NUM_THREADS=1 python benchmarks/bench_training_step.py

The yardstick is the step of transformers' own Qwen3 of the same shape.  All contenders take turns in one process, every
round in another order, and only CPU time counts, so that what else the machine does weighs on all of them alike; the
figures are medians over rounds.  Forward, backward, gradient clipping and the fused AdamW step are inside the clock;
making the batch is not.
"""

import statistics
from collections.abc import Callable
from functools import partial

import torch
from turns import HEADS, INNER, LAYERS, VOCAB, WIDTH, clocked, options, qwen3, take_turns, write

from mezzotint.batch import Batch
from mezzotint.denoisers.networks.small_transformer import Transformer, TransformerConfig
from mezzotint.families.ar import AR
from mezzotint.families.bd3lm import BD3LM
from mezzotint.families.mdlm import MDLM
from mezzotint.objectives.base import Objective
from mezzotint.rng import Rng

ROWS, COLUMNS, BLOCK = 8, 128, 16

Contender = Callable[[Batch, int], torch.Tensor]


def main() -> None:
    """Measure and write benchmarks/results/training_step_<machine>.json."""
    given = options(__doc__, rounds=12)
    torch.set_num_threads(1)
    contenders = {"transformers AR": theirs(), **ours()}
    seconds = take_turns(
        contenders, given.rounds, lambda step, number: clocked(partial(step, sample(number), number))[0]
    )
    speed = {name: ROWS * COLUMNS / statistics.median(found) for name, found in seconds.items()}
    yardstick = speed["transformers AR"]
    for name, value in speed.items():
        print(f"{name:24} {value:8.0f} tokens per CPU-second  {value / yardstick:5.2f} x")
    task = {"batch": {"rows": ROWS, "columns": COLUMNS, "block": BLOCK}, "precision": "float32"}
    found = {
        "tokens_per_cpu_second": speed,
        "times_transformers": {name: value / yardstick for name, value in speed.items()},
        "cpu_seconds_per_step": seconds,
    }
    write("training_step", given, task, found)


def sample(number: int) -> Batch:
    """Random tokens; [MASK] is the last id and never among them."""
    generator = torch.Generator().manual_seed(number)
    tokens = torch.randint(0, VOCAB - 1, (ROWS, COLUMNS), generator=generator)
    return Batch(tokens, torch.ones_like(tokens, dtype=torch.bool))


def stepper(network: torch.nn.Module, loss_of: Callable[[Batch, int], torch.Tensor]) -> Contender:
    """One whole training step."""
    parameters = list(network.parameters())
    optimizer = torch.optim.AdamW(parameters, lr=3e-4, fused=True)

    def step(batch: Batch, number: int) -> torch.Tensor:
        loss = loss_of(batch, number)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss.detach()

    return step


def theirs() -> Contender:
    """transformers' Qwen3 with its own loss."""
    network = qwen3(COLUMNS, use_cache=False).train()
    return stepper(network, lambda batch, number: network(input_ids=batch.tokens, labels=batch.tokens).loss)


def ours() -> dict[str, Contender]:
    """One trunk under three objectives."""
    mask_id = VOCAB - 1
    objectives: dict[str, Objective] = {
        "mezzotint AR": AR().build(VOCAB, mask_id).objective,
        "mezzotint MDLM": MDLM().build(VOCAB, mask_id).objective,
        "mezzotint BD3LM": BD3LM(block=BLOCK).build(VOCAB, mask_id).objective,
    }
    return {name: trained(objective) for name, objective in objectives.items()}


def trained(objective: Objective) -> Contender:
    """A fresh trunk under an objective."""
    torch.manual_seed(0)
    network: Transformer = TransformerConfig(width=WIDTH, layers=LAYERS, heads=HEADS, hidden=INNER).build(VOCAB).train()
    return stepper(network, lambda batch, number: objective(network, batch, Rng(0, number)).total)


if __name__ == "__main__":
    main()
