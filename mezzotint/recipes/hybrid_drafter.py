"""The diffusion adapter of the default model: its answers and hidden states, and a drafter trained on both."""

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import nn

from mezzotint.checkpoints import DEFAULT_MODEL, Checkpoint, open_checkpoint
from mezzotint.config import config
from mezzotint.data import prompts
from mezzotint.data.tokenizer import Tokenizer
from mezzotint.denoisers.causal_network import CausalNetwork, Floats
from mezzotint.denoisers.hybrid.adapter_file import load_adapter, save_adapter
from mezzotint.denoisers.hybrid.torch_backend import restored
from mezzotint.denoisers.networks.drafter import Drafter, DrafterShape
from mezzotint.errors import ConfigError
from mezzotint.evaluate.bench.prompts import held_out
from mezzotint.train.drafter.answers import Index, Plan, Top, Writer
from mezzotint.train.drafter.batches import DraftData, DraftSettings, accepted, frequent
from mezzotint.train.drafter.loss import DraftLoss
from mezzotint.train.drafter.self_prompting import Asking, Book, asked, header
from mezzotint.train.metrics import ProgressDisplay
from mezzotint.train.optim import Cosine, Orthogonal
from mezzotint.train.task import Task, Train


@config
class Answers:
    """The base model's answers, written once and kept."""

    folder: Path = Path("runs/answers")
    """Where they are kept; a folder that holds enough is used as it is."""
    tokens: int = Field(default=700_000, gt=20_000)
    """Tokens wanted, prompts included."""
    lanes: int = Field(default=64, gt=0, le=64)
    """Conversations written at a time."""
    threads: int = Field(default=0, ge=0)
    """CPU threads; 0 takes all."""
    prompts: Path = Path("runs/prompts")
    """Where the prompt sources are unpacked."""
    asked: float = Field(default=0.7, ge=0, le=1)
    """Share of conversations whose first prompt the base asks itself; the others, and those for which it does not
    come to an end, are of those sources."""
    seed: int = Field(default=0, ge=0)


@config
class Size:
    """The drafter's sizes where it is free to choose."""

    layers: int = Field(default=2, gt=0)
    taps: tuple[int, ...] = (10, 20, 30)
    """Layers of the base after which it is read."""
    block: int = Field(default=4, gt=0)
    """Masked rows per anchor; the longest draft has one token more."""
    window: int = Field(default=128, gt=0)
    """Context rows that a row sees."""
    mixer: int = Field(default=1152, gt=0, multiple_of=32)
    """Hidden channels of the recurrent head."""
    ids: int = Field(default=8192, gt=0, multiple_of=8)
    """Most frequent ids, which may always be drafted."""


@config
class HybridDrafter:
    """The whole run."""

    base: str = DEFAULT_MODEL
    answers: Answers = Answers()
    size: Size = Size()
    start: Path | None = None
    """An adapter to train on, whose sizes and ids then hold; without one the drafter begins anew."""
    renew_ids: bool = False
    """Choose the ids by these answers even so; any fit, as the drafter's head is the base's own embedding."""
    rows: int = Field(default=4096, gt=0)
    """Network rows per micro-batch, padding included."""
    anchors: float = Field(default=0.2, gt=0, le=1)
    """Blocks per token."""
    partial: float = Field(default=0.25, ge=0, le=1)
    """Share of blocks in which some columns are already decided."""
    gamma: float = Field(default=4.0, gt=0)
    """Decay of an offset's weight in the loss, in tokens."""
    argmax: float = Field(default=0.5, ge=0, le=1)
    """Share of the target on the base's first choice."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Share of the drafter's numbers left out of each step, for more steps than the answers are good for otherwise."""
    train: Train

    def build(self) -> Task:
        """Write the answers that are missing, then make the drafter.

        Raises:
            CheckpointError: the base, a prompt source or the adapter to start from cannot be had.
            ConfigError: that adapter reads the base elsewhere than the answers were written for; the base cannot ask.
            RequestError: the base has no chat template.
        """
        checkpoint = open_checkpoint(self.base)
        tokenizer = Tokenizer.from_spec(checkpoint.tokenizer)
        _answer(self, checkpoint, tokenizer)
        torch.manual_seed(self.train.seed)
        drafter = _drafter(self, checkpoint, tokenizer)
        settings = DraftSettings(self.rows, self.anchors, self.partial)
        data = DraftData(self.answers.folder, drafter, settings)
        judge = _Judge(data, self, checkpoint.name)
        return Task(drafter, DraftLoss(self.gamma, self.argmax), data, judge.evaluate, judge.export)


def smollm2_hybrid() -> HybridDrafter:
    """An hour of two cores."""
    optim = Orthogonal(shape=Cosine(warmup=0.02, floor=0.02))
    return HybridDrafter(
        train=Train(steps=None, max_minutes=60.0, optim=optim, eval_every=200, log_every=10, save_minutes=4.0)
    )


def smollm2_hybrid_gpu() -> HybridDrafter:
    """Half an hour of one large GPU: more layers, longer drafts, tens of millions of tokens."""
    optim = Orthogonal(shape=Cosine(warmup=0.02, floor=0.02))
    train = Train(steps=None, max_minutes=25.0, optim=optim, eval_every=500, precision="bfloat16", save_minutes=4.0)
    size = Size(layers=3, block=7, ids=16_384, window=256)
    return HybridDrafter(size=size, rows=32_768, anchors=0.3, gamma=5.0, train=train, answers=Answers(tokens=4_000_000))


def _drafter(recipe: HybridDrafter, checkpoint: Checkpoint, tokenizer: Tokenizer) -> Drafter:
    c, size = checkpoint.config, recipe.size
    embedding = torch.from_numpy(np.ascontiguousarray(checkpoint.tensor("model.embed_tokens.weight")))

    def ids() -> torch.Tensor:
        return frequent(recipe.answers.folder, size.ids, int(c["vocab_size"]), tuple(tokenizer.eos_ids))

    if recipe.start is not None:
        shape, weights, _ = load_adapter(recipe.start)
        if shape.taps != size.taps:
            raise ConfigError(f"{recipe.start} reads layers {shape.taps}: set size.taps to them, not to {size.taps}")
        if recipe.renew_ids:
            weights["ids"] = ids().numpy()
        return restored(shape, weights, embedding, recipe.dropout)
    heads = int(c["num_attention_heads"])
    shape = DrafterShape(
        width=c["hidden_size"],
        hidden=c["intermediate_size"],
        heads=heads,
        kv_heads=c["num_key_value_heads"],
        head_dim=int(c.get("head_dim") or c["hidden_size"] // heads),
        theta=float(c["rope_theta"]),
        eps=float(c["rms_norm_eps"]),
        layers=size.layers,
        taps=size.taps,
        block=size.block,
        window=size.window,
        mixer=size.mixer,
    )
    norm = torch.from_numpy(np.ascontiguousarray(checkpoint.tensor("model.norm.weight")))
    return Drafter(shape, embedding, norm, ids(), recipe.dropout)


def _answer(recipe: HybridDrafter, checkpoint: Checkpoint, tokenizer: Tokenizer) -> None:
    answers = recipe.answers
    if Index(answers.folder).tokens >= answers.tokens:
        return
    import os

    from mezzotint.denoisers.native.decoder import NativeDecoder
    from mezzotint.denoisers.native.runtime import ThreadPool, top

    pool = ThreadPool(answers.threads or len(os.sched_getaffinity(0)))
    longest = min(Plan.context, int(checkpoint.config["max_position_embeddings"]))
    plan = Plan(recipe.size.taps, frozenset(tokenizer.eos_ids), context=longest, seed=answers.seed)

    def network(capacity: int) -> NativeDecoder:
        return NativeDecoder(checkpoint, pool, capacity, lanes=answers.lanes)

    def best(logits: Floats, k: int) -> tuple[NDArray[np.int32], Floats, Floats]:
        return top(pool, logits, k)

    writer = Writer(answers.folder, network(plan.context + 64), tokenizer.chat, best, plan)
    conversation = _conversations(answers, tokenizer, network, best)
    with ProgressDisplay("answers") as display:
        for count, kept in enumerate(writer.write(conversation, tokenizer.decode, answers.lanes)):
            if count % 100 == 0:
                display.say(f"{kept:,} of {answers.tokens:,} tokens")
            if kept >= answers.tokens:
                return


def _conversations(
    answers: Answers, tokenizer: Tokenizer, network: Callable[[int], CausalNetwork], best: Top
) -> Callable[[int], list[str]]:
    """User turns by number: of the prompt sources, or asked by the base."""
    begins, end = header(tokenizer.chat), frozenset(tokenizer.eos_ids)
    asker = network(len(begins) + Asking.most + 64) if answers.asked else None
    if asker is not None and not 0 < len(begins) < asker.capacity:
        raise ConfigError("the base's chat template leaves it nothing to ask prompts from: set answers.asked=0")
    most = min(Asking.most, asker.capacity - len(begins)) if asker is not None else 0
    asking = Asking(begins, end, most, seed=answers.seed)
    source = prompts.load(answers.prompts, answers.seed)

    def wanted(number: int) -> bool:
        return random.Random(f"{answers.seed}/{number}/asked").random() < answers.asked

    def ask(numbers: Sequence[int]) -> Iterator[tuple[int, str]]:
        assert asker is not None
        for number, ids in asked(asker, best, filter(wanted, numbers), asking, answers.lanes):
            yield number, tokenizer.decode(ids).strip()

    book = Book(answers.folder / "asked.jsonl", ask, {"seed": answers.seed, "share": answers.asked})

    def conversation(number: int) -> list[str]:
        own = book.prompt(number) if wanted(number) else None
        turns = [own, *source.later(number)] if own else source.conversation(number)
        return turns if not any(map(held_out, turns)) else ["Say hello."]

    return conversation


@dataclass(frozen=True)
class _Judge:
    data: DraftData
    recipe: HybridDrafter
    base: str

    def evaluate(self, network: nn.Module) -> dict[str, float | str]:
        """Tokens per pass of a greedily verified chain on held-out conversations."""
        assert isinstance(network, Drafter)
        return accepted(network, self.data)

    def export(self, network: nn.Module, folder: Path) -> None:
        """The adapter as the package ships it."""
        assert isinstance(network, Drafter)
        notes: dict[str, Any] = {
            "tokens": int(sum(length for _, length in self.data.train)),
            "held_out": {k: round(float(v), 4) for k, v in accepted(network, self.data).items()},
        }
        save_adapter(network, folder / f"{self.base}.safetensors", self.base, notes)
