"""What decoding costs beside the network: tokens per CPU-second at one token per pass, under every cache.

    OMP_NUM_THREADS=1 python benchmarks/bench_decode_loop.py [--memory]

The yardstick is transformers' own greedy `generate` with its cache, on its Qwen3 of the same shape.  One token per pass
means that only the loop and what the cache saves count.  All contenders take turns in one process, every round in
another order, and only CPU time counts; the figures are medians over rounds.

Approximate caches drift: for each, the share of tokens equal to those written without a cache, and the mean
Kullback-Leibler divergence in nats of what the network says of open columns, along the canvases of the run without one.
The networks have random weights, whose predictions depend on far columns more than those of trained ones do, so a cache
is approximate here as it would be there, but the numbers are not those of a trained model.

With --memory, instead: how far the process grows above the loaded network in the first passes over canvases of several
lengths and batches, every case in a process of its own.
"""

import itertools
import multiprocessing
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path

import torch
from turns import HEADS, INNER, LAYERS, VOCAB, WIDTH, clocked, options, qwen3, take_turns, write

from mezzotint.decode.caches.policies import Delayed, Dual, FinishedBlocks, Policy, Prefix, UpToBlock, nothing
from mezzotint.decode.plan import Blocks, following, multiples
from mezzotint.decode.propose import likeliest
from mezzotint.decode.reader import Network, Reader
from mezzotint.decode.rule import Unmask
from mezzotint.decode.run import Decoding, MaskedModel, Run, generate
from mezzotint.decode.select import Top
from mezzotint.decode.shapers import Ban
from mezzotint.denoisers.networks.small_transformer import TransformerConfig

PROMPT, NEW, BLOCK, ROWS = 32, 128, 32, 4
AR = "transformers AR"
POLICIES: dict[str, tuple[Policy, int | None]] = {
    "no cache": (nothing, None),
    "prefix": (Prefix(), None),
    "dual": (Dual(), None),
    "delayed, every 8": (Delayed(8), None),
    "block-causal, no cache": (UpToBlock(BLOCK), BLOCK),
    "block-causal": (FinishedBlocks(BLOCK), BLOCK),
}
APPROXIMATE: dict[str, Policy] = {
    "prefix": Prefix(),
    "prefix, every 8": Prefix(every=8),
    "dual": Dual(),
    "dual, every 8": Dual(every=8),
    "dual, 16 columns around": Dual(back=16, ahead=16),
    "delayed, every 8": Delayed(8),
    "delayed, every 32": Delayed(32),
}
Contender = Callable[[int], int]
"""The number of the round -> tokens written."""


def main() -> None:
    """Measure and write benchmarks/results/decode_loop_<machine>.json, or decode_memory_<machine>.json."""
    given = options(__doc__, rounds=5, memory="measure memory instead")
    if given.memory:
        write("decode_memory", given, {"task": {"passes": LOOKS, "block": BLOCK}}, {"cases": memory()})
        return
    torch.set_num_threads(1)
    speeds = take_turns({AR: theirs(), **ours()}, given.rounds, rate)
    speed = {name: statistics.median(found) for name, found in speeds.items()}
    for name, value in speed.items():
        print(f"{name:44} {value:8.1f} tokens per CPU-second  {value / speed[AR]:5.2f} x")
    drifts = {name: drift(policy) for name, policy in APPROXIMATE.items()}
    for name, found in drifts.items():
        print(f"{name:28} {found['tokens_equal']:8.3f} of tokens equal, {found['nats']:.5f} nats")
    share = overhead()
    print(f"{'outside the network':28} {share:8.3f} of a pass at {LARGE} ids")
    task = {"task": {"prompt": PROMPT, "new": NEW, "block": BLOCK, "tokens_per_pass": 1}}
    results = {
        "tokens_per_cpu_second": speed,
        "times_transformers": {name: value / speed[AR] for name, value in speed.items()},
        "all": speeds,
        "drift": drifts,
        "loop_share_of_a_pass": {"vocab": LARGE, "share": share},
    }
    write("decode_loop", given, task, results)


def rate(contender: Contender, number: int) -> float:
    """Tokens per CPU-second."""
    seconds, tokens = clocked(lambda: contender(number))
    return tokens / seconds


def prompts(number: int, rows: int = 1) -> torch.Tensor:
    """Random ids; [MASK] is the last one and never among them."""
    return torch.randint(0, VOCAB - 1, (rows, PROMPT), generator=torch.Generator().manual_seed(number))


def theirs() -> Contender:
    """Greedy `generate` of transformers' Qwen3, which never meets an end token."""
    network = qwen3(512, eos_token_id=None, pad_token_id=0).eval()

    def run(number: int) -> int:
        ids = prompts(number)
        with torch.inference_mode():
            network.generate(
                ids, attention_mask=torch.ones_like(ids), max_new_tokens=NEW, min_new_tokens=NEW, do_sample=False
            )
        return NEW

    return run


def model(block: int | None, vocab: int = VOCAB) -> MaskedModel:
    """A network of the benchmark's shape with random weights."""
    torch.manual_seed(0)
    network = TransformerConfig(width=WIDTH, layers=LAYERS, heads=HEADS, hidden=INNER).build(vocab).eval()
    torch.nn.init.normal_(network.head.weight, std=WIDTH**-0.5)
    return MaskedModel(network.requires_grad_(False), vocab - 1, vocab, block=block)


def decoding(policy: Policy, block: int | None, vocab: int = VOCAB, focus: bool = True) -> Decoding:
    """The surest column of the block in every pass."""
    rule = Unmask(likeliest, Top(1), shapers=(Ban(torch.arange(vocab) == vocab - 1),))
    return Decoding(
        rule, Blocks(BLOCK, place=following if block is None else multiples), policy, halt=False, focus=focus
    )


def ours() -> dict[str, Contender]:
    """One network under every policy, the two that matter most in a batch, and what two of our short cuts give."""
    found = {name: written(policy, block, 1) for name, (policy, block) in POLICIES.items()}
    for name in ("dual", "block-causal"):
        found[f"{name}, batch {ROWS}"] = written(*POLICIES[name], ROWS)
    whole, halves = decoding(*POLICIES["block-causal"], focus=False), model(BLOCK)
    found["block-causal, logits of decided columns too"] = written(*POLICIES["block-causal"], 1, how=whole)
    halves = replace(halves, network=Halves(halves.network))
    found["block-causal, plain torch"] = written(*POLICIES["block-causal"], 1, used=halves)
    return found


class Halves:
    """A network whose kernels are not used."""

    lookback = 0

    def __init__(self, network: Network) -> None:
        self.hidden, self.head, self.memory = network.hidden, network.head, network.memory


def written(
    policy: Policy, block: int | None, rows: int, used: MaskedModel | None = None, how: Decoding | None = None
) -> Contender:
    """Texts of NEW tokens each."""
    used, how = used or model(block), how or decoding(policy, block)

    def run(number: int) -> int:
        made = generate(used, prompts(number, rows).tolist(), NEW, how)
        assert made.passes == NEW
        return NEW * rows

    return run


def drift(policy: Policy) -> dict[str, float]:
    """How far a cache is from none, over a few prompts."""
    used, equal, nats = model(None), [], []
    for number in range(2):
        batch = prompts(number).tolist()
        plain = Run(used, batch, NEW, decoding(nothing, None, focus=False))
        reader, cached = plain.reader, Reader(used.network, policy, used.sees)

        def both(canvas, step, reader=reader, cached=cached):  # noqa: ANN001, ANN202 - a Denoise
            raw, other = reader(canvas, step).log_softmax(-1), cached(canvas, step).log_softmax(-1)
            apart = (raw.exp() * (raw - other)).sum(-1)
            nats.append(float(apart[canvas.open.gather(-1, step.window.columns())].mean()))
            return raw

        plain.reader = both
        for _ in plain:
            pass
        alone = generate(used, batch, NEW, decoding(policy, None))
        equal.append(float((alone.canvas.tokens == plain.canvas.tokens)[:, PROMPT:].float().mean()))
    return {"tokens_equal": statistics.mean(equal), "nats": statistics.mean(nats)}


LARGE = 126464


def overhead() -> float:
    """The share of a step that is not the network, with LLaDA's vocabulary and a block of 32 open columns.

    The network here is tiny; LLaDA's own costs a thousand times as much, so its share there is smaller by as much.
    """
    used, how = model(None, LARGE), decoding(nothing, None, LARGE)
    run = Run(used, prompts(0).tolist(), BLOCK, how)
    inside, reader, begun = [], run.reader, time.process_time()

    def timed(canvas, step, only):  # noqa: ANN001, ANN202 - a Denoise
        started = time.process_time()
        raw = reader(canvas, step, only)
        inside.append(time.process_time() - started)
        return raw

    run.reader = timed
    for _ in run:
        pass
    whole = time.process_time() - begun
    return (whole - sum(inside)) / whole


LENGTHS, BATCHES, LOOKS = (256, 512, 1024, 2048, 4096), (1, 2, 4, 8), 3
CACHES = ("no cache", "block-causal")


def memory() -> list[dict[str, str | int | float]]:
    """Megabytes by cache, columns and rows: every length alone, and the middle one in batches."""
    shapes = [(length, 1) for length in LENGTHS] + [(LENGTHS[2], rows) for rows in BATCHES[1:]]
    found = []
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, spawn, max_tasks_per_child=1) as one_each:
        cases = [(name, *shape) for name, shape in itertools.product(CACHES, shapes)]
        for (name, columns, rows), grown in zip(cases, one_each.map(growth, *zip(*cases, strict=True)), strict=True):
            logits = rows * columns * VOCAB * 4 / 2**20
            print(f"{name:14} {columns:5} columns x {rows}: {grown:7.1f} MB; logits of all columns {logits:7.1f} MB")
            found.append({"cache": name, "columns": columns, "rows": rows, "mb": grown, "all_logits_mb": logits})
    return found


def growth(name: str, columns: int, rows: int) -> float:
    """Megabytes by which the largest size of this process exceeds its size with the network loaded."""
    torch.set_num_threads(1)
    policy, block = POLICIES[name]
    used, how = model(block), decoding(policy, block)
    next(iter(Run(used, prompts(0).tolist(), BLOCK, how)))  # the kernels' own matrices belong to the network
    begun = resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    texts = torch.randint(0, VOCAB - 1, (rows, columns - BLOCK)).tolist()
    for _ in itertools.islice(Run(used, texts, BLOCK, how), LOOKS):
        pass
    return resident("VmHWM") - begun


def resident(what: str) -> float:
    """Megabytes of this process, now (VmRSS) or at most (VmHWM)."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(what)) / 1024


if __name__ == "__main__":
    main()
