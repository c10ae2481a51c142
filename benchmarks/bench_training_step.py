"""What one training step costs: masked and block diffusion against autoregression, in tokens per CPU-second.

    OMP_NUM_THREADS=1 python benchmarks/bench_training_step.py

The yardstick is the step of transformers' own Qwen3 of the same shape.  All contenders take turns in one process, every
round in another order, and only CPU time counts, so that what else the machine does weighs on all of them alike; the
figures are medians over rounds.  Forward, backward, gradient clipping and the fused AdamW step are inside the clock;
making the batch is not.
"""

import argparse
import json
import random
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch

from mezzotint.batch import Batch
from mezzotint.denoisers.transformer import Transformer, TransformerConfig
from mezzotint.evaluate.machine import commit, machine, slug, versions
from mezzotint.families.ar import AR
from mezzotint.families.bd3lm import BD3LM
from mezzotint.families.mdlm import MDLM
from mezzotint.objectives.base import Objective
from mezzotint.rng import Rng

VOCAB, WIDTH, LAYERS, HEADS, INNER = 8192, 256, 4, 4, 704
ROWS, COLUMNS, BLOCK = 8, 128, 16
RESULTS = Path(__file__).parent / "results"

Contender = Callable[[Batch, int], torch.Tensor]


def main() -> None:
    """Measure and write benchmarks/results/training_step_<machine>.json."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--machine", default=slug(machine()["cpu"]), help="part of the file's name")
    parser.add_argument("--dry", action="store_true", help="print only")
    options = parser.parse_args()
    torch.set_num_threads(1)
    contenders = {"transformers AR": theirs(), **ours()}
    seconds = measure(contenders, options.rounds)
    tokens = ROWS * COLUMNS
    speed = {name: tokens / statistics.median(found) for name, found in seconds.items()}
    yardstick = speed["transformers AR"]
    for name, value in speed.items():
        print(f"{name:24} {value:8.0f} tokens per CPU-second  {value / yardstick:5.2f} x")
    if not options.dry:
        record = {
            "shape": {"vocab": VOCAB, "width": WIDTH, "layers": LAYERS, "heads": HEADS, "inner": INNER},
            "batch": {"rows": ROWS, "columns": COLUMNS, "block": BLOCK},
            "precision": "float32",
            "threads": 1,
            "rounds": options.rounds,
            "versions": versions(("torch", "transformers")),
            "machine": machine(),
            "commit": commit(),
            "tokens_per_cpu_second": speed,
            "times_transformers": {name: value / yardstick for name, value in speed.items()},
            "cpu_seconds_per_step": seconds,
        }
        RESULTS.mkdir(exist_ok=True)
        path = RESULTS / f"training_step_{options.machine}.json"
        path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        print(path)


def measure(contenders: dict[str, Contender], rounds: int) -> dict[str, list[float]]:
    """CPU-seconds of every step, after one that is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    order = list(contenders)
    for number in range(rounds + 1):
        random.Random(number).shuffle(order)
        batch = sample(number)
        for name in order:
            begun = time.process_time()
            contenders[name](batch, number)
            if number:
                seconds[name].append(time.process_time() - begun)
    return seconds


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
    from transformers import Qwen3Config, Qwen3ForCausalLM

    torch.manual_seed(0)
    shape = Qwen3Config(
        vocab_size=VOCAB,
        hidden_size=WIDTH,
        intermediate_size=INNER,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        num_key_value_heads=HEADS,
        head_dim=WIDTH // HEADS,
        max_position_embeddings=COLUMNS,
        tie_word_embeddings=False,
        use_cache=False,
    )
    network = Qwen3ForCausalLM(shape).train()
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
