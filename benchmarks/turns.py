"""What the benchmarks against transformers share: the shape, the yardstick's network, taking turns, the record."""

import argparse
import json
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from mezzotint.evaluate.bench.machine import commit, machine, slug, versions

VOCAB, WIDTH, LAYERS, HEADS, INNER = 8192, 256, 4, 4, 704
RESULTS = Path(__file__).parent / "results"


def options(about: str, rounds: int, **flags: str) -> argparse.Namespace:
    """The command line: rounds, machine, dry, and flags with their help."""
    parser = argparse.ArgumentParser(description=about.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=rounds)
    parser.add_argument("--machine", default=slug(machine()["cpu"]), help="part of the file's name")
    parser.add_argument("--dry", action="store_true", help="print only")
    for name, what in flags.items():
        parser.add_argument(f"--{name}", action="store_true", help=what)
    return parser.parse_args()


def take_turns(contenders: dict[str, Any], rounds: int, play: Callable[[Any, int], float]) -> dict[str, list[float]]:
    """What `play` returns for every contender in every round, each round in another order, one round not counted."""
    found: dict[str, list[float]] = {name: [] for name in contenders}
    order = list(contenders)
    for number in range(rounds + 1):
        random.Random(number).shuffle(order)
        for name in order:
            value = play(contenders[name], number)
            if number:
                found[name].append(value)
    return found


def clocked(work: Callable[[], Any]) -> tuple[float, Any]:
    """CPU-seconds, and what the work returned."""
    begun = time.process_time()
    value = work()
    return time.process_time() - begun, value


def qwen3(positions: int, **more: Any) -> torch.nn.Module:
    """transformers' Qwen3 of the shape, with random weights."""
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
        max_position_embeddings=positions,
        tie_word_embeddings=False,
        **more,
    )
    return Qwen3ForCausalLM(shape)


def write(kind: str, given: argparse.Namespace, task: dict[str, Any], found: dict[str, Any]) -> None:
    """benchmarks/results/KIND_<machine>.json: shape and task, where it was measured, and what was found."""
    if given.dry:
        return
    record = {
        "shape": {"vocab": VOCAB, "width": WIDTH, "layers": LAYERS, "heads": HEADS, "inner": INNER},
        **task,
        "threads": 1,
        "rounds": given.rounds,
        "versions": versions(("torch", "transformers")),
        "machine": machine(),
        "commit": commit(),
        **found,
    }
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{kind}_{given.machine}.json"
    path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(path)
