"""Decoding speed of the large published shapes with random weights, by cache and batch: forwards/s, tokens/s, memory.

    python benchmarks/bench_large_models.py --model llada-8b --model dream-7b

Needs a GPU that holds 16 GB of weights; `--model small` runs anywhere and only shows that the script does.  The
schedule is fixed, so random weights cost what trained ones do.  "one by one" is the same network read causally, one
column per pass with an exact cache: what autoregressive decoding of this shape costs in the same loop.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from mezzotint.decode.caches.policies import Dual, FinishedBlocks, Policy, Prefix, nothing
from mezzotint.decode.plan import Blocks, following, multiples
from mezzotint.decode.propose import likeliest
from mezzotint.decode.reader import Network
from mezzotint.decode.rule import Unmask
from mezzotint.decode.run import Decoding, MaskedModel, generate
from mezzotint.decode.select import Top
from mezzotint.decode.shapers import Ban
from mezzotint.denoisers.networks.llama import Decoder, DecoderConfig
from mezzotint.denoisers.published.attention_patterns import FullPattern
from mezzotint.denoisers.published.open import AlignedNetwork
from mezzotint.evaluate.bench.machine import commit, machine, slug, versions

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Shape:
    """A published model's sizes (its config.json), and where a column's logits stand."""

    network: DecoderConfig
    lookback: int


def decoder(vocab: int, width: int, inner: int, layers: int, heads: int, kv_heads: int, **more: Any) -> DecoderConfig:
    """A decoder with an untied head and room for 4,096 positions."""
    return DecoderConfig(
        vocab=vocab,
        width=width,
        inner=inner,
        layers=layers,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=width // heads,
        max_positions=4096,
        tied=False,
        **more,
    )


SHAPES = {
    "llada-8b": Shape(decoder(126464, 4096, 12288, 32, 32, 32, rope_theta=500000.0), 0),
    "dream-7b": Shape(decoder(152064, 3584, 18944, 28, 28, 4, rope_theta=1000000.0, qkv_bias=True), 1),
    "small": Shape(decoder(8192, 256, 704, 4, 4, 4), 0),
}


@dataclass(frozen=True)
class Way:
    """A cache, and the blocks of the network it is for; None where every column sees every other."""

    policy: Policy
    block: int | None = None
    window: int | None = None
    """Columns written together; None is the task's block."""


def main() -> None:
    """Measure and write benchmarks/results/large_models_<machine>.json."""
    given = options()
    where = torch.cuda.get_device_name() if given.device == "cuda" else machine()["cpu"]
    found = {name: list(measured(SHAPES[name], given)) for name in given.model}
    record = {
        "task": {"prompt": given.prompt, "new": given.new, "block": given.block, "tokens_per_pass": given.per_pass},
        "dtype": given.dtype,
        "rounds": given.rounds,
        "device": where,
        "versions": versions(("torch",)),
        "machine": machine(),
        "commit": commit(),
        "models": found,
    }
    if not given.dry:
        RESULTS.mkdir(exist_ok=True)
        path = RESULTS / f"large_models_{slug(where)}.json"
        path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        print(path)


def options() -> argparse.Namespace:
    """The command line."""
    gpu = torch.cuda.is_available()
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--model", action="append", choices=sorted(SHAPES), help="a shape; may be given again")
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 4, 16], metavar="N", help="texts together")
    parser.add_argument("--prompt", type=int, default=128, metavar="N", help="tokens of a prompt")
    parser.add_argument("--new", type=int, default=128, metavar="N", help="tokens written")
    parser.add_argument("--block", type=int, default=32, metavar="N", help="columns of a block")
    parser.add_argument("--per-pass", type=int, default=2, metavar="N", help="tokens decided in a pass")
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="timed rounds, after one that is not")
    parser.add_argument("--device", default="cuda" if gpu else "cpu", choices=("cuda", "cpu"))
    parser.add_argument("--dtype", default="bfloat16" if gpu else "float32", choices=("bfloat16", "float32"))
    parser.add_argument("--dry", action="store_true", help="print only")
    given = parser.parse_args()
    if given.device == "cuda" and not gpu:
        sys.exit("bench_large_models: there is no GPU here; --model small --device cpu runs anywhere")
    given.model = given.model or (["llada-8b", "dream-7b"] if given.device == "cuda" else ["small"])
    return given


def measured(shape: Shape, given: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Every way at every batch size; what does not fit the memory says so."""
    network = random_network(shape, given)
    ways = {
        "no cache": Way(nothing),
        "prefix": Way(Prefix()),
        "dual": Way(Dual()),
        "block-causal": Way(FinishedBlocks(given.block), given.block),
        "one by one": Way(FinishedBlocks(1), 1, 1),
    }
    for batch in given.batch:
        for name, way in ways.items():
            try:
                row = {"cache": name, "batch": batch, **timed(network, way, batch, shape.network.vocab, given)}
            except torch.OutOfMemoryError:
                row = {"cache": name, "batch": batch, "missing": "out of memory"}
            print(json.dumps(row), flush=True)
            yield row


def random_network(shape: Shape, given: argparse.Namespace) -> Network:
    """The network, made where it runs, in its own type: a copy in float32 would not fit beside it."""
    torch.manual_seed(0)
    usual = torch.get_default_dtype()
    torch.set_default_dtype(getattr(torch, given.dtype))
    try:
        with torch.device(given.device):
            made = Decoder(shape.network)
    finally:
        torch.set_default_dtype(usual)
    torch.nn.init.normal_(made.head.weight, std=shape.network.width**-0.5)
    return AlignedNetwork(made.eval().requires_grad_(False), FullPattern(), shape.lookback)


def timed(network: Network, way: Way, batch: int, vocab: int, given: argparse.Namespace) -> dict[str, Any]:
    """Medians over rounds of whole generations."""
    size = way.window or given.block
    place = following if way.block is None else multiples
    rule = Unmask(likeliest, Top(min(given.per_pass, size)), shapers=(Ban(torch.arange(vocab) == vocab - 1),))
    how = Decoding(rule, Blocks(size, place=place), way.policy, halt=False, focus=True)
    used = MaskedModel(network, vocab - 1, vocab, block=way.block, device=given.device)
    on_gpu, seconds, passes = given.device == "cuda", [], 0
    for number in range(given.rounds + 1):
        noise = torch.Generator().manual_seed(number)
        prompts = torch.randint(0, vocab - 1, (batch, given.prompt), generator=noise).tolist()
        if on_gpu:
            torch.cuda.reset_peak_memory_stats()
            torch.cuda.synchronize()
        begun = time.perf_counter()
        passes = generate(used, prompts, given.new, how).passes
        if on_gpu:
            torch.cuda.synchronize()
        if number:
            seconds.append(time.perf_counter() - begun)
    middle = statistics.median(seconds)
    found = {"passes": passes, "seconds": seconds}
    found |= {"passes_per_second": passes / middle, "tokens_per_second": batch * given.new / middle}
    return found | ({"peak_bytes": torch.cuda.max_memory_allocated()} if on_gpu else {})


if __name__ == "__main__":
    main()
