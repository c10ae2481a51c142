"""A causal model with a diffusion drafter, or without one: what `mezzotint.load` opens by default."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from mezzotint.checkpoints import Checkpoint
from mezzotint.data.tokenizer import Tokenizer
from mezzotint.denoisers.causal_network import CausalNetwork, prefill
from mezzotint.denoisers.draft_network import DraftNetwork
from mezzotint.engine.hybrid.cost_model import Costs
from mezzotint.engine.hybrid.modes import Mode, Verify, ar
from mezzotint.engine.hybrid.writer import ROWS, HybridWriter
from mezzotint.engine.request import Request, Sampling
from mezzotint.errors import ConfigError, RequestError
from mezzotint.models.answer import Asked, Origin
from mezzotint.models.base import Bound
from mezzotint.models.holes import continues, ids_of
from mezzotint.models.hybrid_networks import BACKENDS, costs, lanes, networks
from mezzotint.models.info import ModelInfo
from mezzotint.models.options import REPETITION, Options

NEW_TOKENS = 256
"""Most new tokens where the caller says nothing."""
SAMPLING = frozenset({"temperature", "top_p", "top_k", "system", "raw", "mode"}) | REPETITION
RULES = {"threshold": "threshold", "factor": "factor", "entropy_bound": "entropy", "tokens_per_step": "topk"}
"""Option -> the rule of block diffusion that it asks for."""
DIFFUSION = frozenset({"block", "steps", "correct", "accept", *RULES})


class LoadedHybrid:
    """A causal network, its drafter if it has one, and its vocabulary."""

    def __init__(
        self, checkpoint: Checkpoint, networks: tuple[CausalNetwork, DraftNetwork | None], backend: str, lanes: int
    ) -> None:
        """`lanes` is one less than the network has: the last one is for scoring."""
        self.checkpoint, self.backend = checkpoint, backend
        self.network, self.drafter = networks
        self.tokenizer = Tokenizer.from_spec(checkpoint.tokenizer)
        self.writer = HybridWriter(self.network, self.drafter, frozenset(self.tokenizer.eos_ids), lanes)
        self.verify = Verify()
        """Mode verify, as this machine runs it best."""
        self._scoring = lanes
        self.info = self._described()

    def _described(self) -> ModelInfo:
        checkpoint = self.checkpoint
        return ModelInfo(
            name=checkpoint.name,
            kind="causal" if self.drafter is None else "hybrid",
            family="ar",
            source=str(checkpoint.path),
            backend=self.backend,
            context=self.network.capacity,
            vocabulary=self.network.vocab,
            parameters=checkpoint.parameters(),
            memory_bytes=stored_bytes(checkpoint),
            modes=("verify", "ar") if self.drafter is None else ("verify", "ar", "diffusion"),
            chat=self.tokenizer.has_chat,
        )

    @property
    def sampling(self) -> dict[str, Any]:
        """How the checkpoint's authors sample, by the names of generation_config.json; greedy if none are said."""
        found = self.checkpoint.generation
        names = ["repetition_penalty", "no_repeat_ngram_size"]
        if found.get("do_sample"):
            names += ["temperature", "top_p", "top_k"]
        usual = {"temperature": 1.0} if found.get("do_sample") else {}
        return usual | {name: found[name] for name in names if found.get(name) is not None}

    def answering(self, prompt: str | Sequence[dict[str, Any]], options: Options) -> Asked:
        """See `Loaded`."""
        options.refuse(SAMPLING | DIFFUSION, self.checkpoint.name)
        ids = ids_of(self.tokenizer, prompt, options, self.checkpoint.name)
        usual = self.sampling
        sampling = Sampling(
            float(usual.get("temperature", 0.0) if options.temperature is None else options.temperature),
            float(usual.get("top_p", 1.0) if options.top_p is None else options.top_p),
            options.seed,
            int(usual.get("top_k", 0) if options.top_k is None else options.top_k),
            options.repetition(usual),
        )
        name = options.mode or "verify"
        most = options.max_new_tokens or NEW_TOKENS
        before = prompt if isinstance(prompt, str) and continues(self.tokenizer, options) else None
        request = Request(tuple(ids), most, sampling, self._mode(name, options), options.stop, before is not None)
        return Asked(request, Origin(name, self.checkpoint.name, self.backend, causal=True, before=before))

    def has_holes(self, text: str) -> bool:
        """None: underscores are text to it."""
        return False

    def filling(self, text: str, options: Options) -> Asked:
        """Raises ConfigError: it writes from left to right."""
        raise ConfigError(
            f"{self.checkpoint.name} is causal: it writes from left to right and cannot fill holes (___); take a "
            "diffusion model, such as a run of `mezzotint train smollm2-dream`"
        )

    def bound(self, text: str, draws: int, seed: int) -> Bound:
        """The exact likelihood, behind the begin token, or else the end token that documents stand behind."""
        ids, special = self.tokenizer.encode(text), self.checkpoint.tokenizer
        first = special.special.get(special.bos, next(iter(special.eos_ids), None))
        row = ids if first is None else [first, *ids]
        if len(row) < 2:
            raise RequestError("there is nothing to score: give a text of more than one token")
        if len(row) > self.network.capacity:
            raise RequestError(f"the text has {len(row)} tokens and the context holds {self.network.capacity}")
        lane = self._scoring
        self.network.truncate(0, lane)
        hidden, _ = prefill(self.network, row[:-1], (), lane)
        nats = 0.0
        for at in range(0, len(hidden), 64):
            logits = self.network.logits(hidden[at : at + 64]).astype(np.float64)
            top = logits.max(-1, keepdims=True)
            logp = logits - top - np.log(np.exp(logits - top).sum(-1, keepdims=True))
            nats -= float(logp[np.arange(len(logp)), row[at + 1 : at + 1 + len(logp)]].sum())
        self.network.truncate(0, lane)
        return Bound(nats, 0.0, len(row) - 1, exact=True)

    def _mode(self, name: str, options: Options) -> Mode:
        given = {option for option in DIFFUSION if getattr(options, option) is not None}
        if name != "diffusion":
            if given:
                raise ConfigError(
                    f"{min(given).replace('_', '-')} belongs to mode diffusion: leave it out of mode {name}"
                )
            return ar if name == "ar" else self.verify
        if self.drafter is None:
            raise ConfigError(f"{self.checkpoint.name} has no diffusion adapter: use mode ar or verify")
        return diffusion_mode(options)


def diffusion_mode(options: Options) -> Mode:
    """Block diffusion with these options.

    Raises:
        ConfigError: two rules at once, or options that contradict each other.
        RequestError: a number out of range.
    """
    rules = [name for name in RULES if getattr(options, name) is not None]
    if len(rules) > 1:
        raise ConfigError(f"{rules[0]} and {rules[1]} are two rules for the same choice: give one")
    if options.accept is not None and options.correct is False:
        raise ConfigError("accept says what is reopened, and correct=False reopens nothing: leave one out")
    if options.threshold is not None and options.threshold < 0:
        raise RequestError(f"threshold {options.threshold:g} is not from 0 to 1: it is a probability")
    given: dict[str, Any] = {name: getattr(options, name) for name in ("block", "steps", "correct", "accept")}
    given = {name: value for name, value in given.items() if value is not None}
    if rules:
        given |= {"rule": RULES[rules[0]], "level": float(getattr(options, rules[0]))}
    return diffusion(**given)


def load_hybrid(checkpoint: Checkpoint, backend: str, threads: int) -> LoadedHybrid:
    """The networks of a causal checkpoint on a backend.

    Raises:
        ConfigError: an unknown backend.
        CapacityError: the native backend was asked for and cannot run here.
        CheckpointError: damaged or unsupported.
    """
    if backend not in BACKENDS:
        raise ConfigError(f"unknown backend {backend!r}: use {', '.join(BACKENDS)}")
    network, drafter, used = networks(checkpoint, backend, threads)
    loaded = LoadedHybrid(checkpoint, (network, drafter), used, lanes(checkpoint))
    if used == "native" and drafter is not None:
        found: Costs = costs(checkpoint, network, drafter, threads)
        loaded.verify = Verify(costs=found)
    return loaded


def stored_bytes(checkpoint: Checkpoint) -> int:
    """Size of the files that hold the weights."""
    files = {tensor.file for tensor in checkpoint.tensors.values()}
    return sum(file.stat().st_size for file in files if file.is_file())


def diffusion(
    block: int = 6,
    rule: str = "threshold",
    level: float | None = None,
    steps: int | None = None,
    correct: bool = True,
    accept: float = 0.1,
    gate: float | None = None,
) -> Mode:
    """A mode from plain options.

    Args:
        block: columns of a block, the last settled one included.
        rule: which columns a denoising step decides: "threshold", "factor", "entropy" or "topk".
        level: the rule's number: a probability, a factor, nats, or tokens a step.
        steps: most denoising steps of a block, after which open columns are left to the next block; without a number
            one for "threshold", and as many as it takes for the others.
        correct: let the network reopen what it finds unlikely.
        accept: least probability, as a share of the network's first choice, that is not reopened; the lower, the faster
            and the rougher the text.
        gate: least chance, by the drafter, that a column and all before it are right; later columns are left to the
            next block; without a number 0.1 for "threshold", and 0 for the others.

    Raises:
        RequestError: a number out of range.
        ConfigError: an unknown rule.
    """
    from mezzotint.engine.hybrid.block_diffusion import Diffusion
    from mezzotint.engine.hybrid.block_rules import EntropyBound, Factor, Threshold, TopK

    if not 1 <= block <= ROWS:
        raise RequestError(f"cannot write in blocks of {block}: give 1 to {ROWS}")
    if steps is not None and steps < 1:
        raise RequestError(f"cannot denoise a block in {steps} steps: give at least 1")
    if not 0 <= accept <= 1:
        raise RequestError(f"cannot accept from {accept} on: give a share from 0 to 1")
    if gate is not None and not 0 <= gate <= 1:
        raise RequestError(f"cannot gate at {gate}: give a chance from 0 to 1")
    makers: dict[str, tuple[float, Any]] = {
        "threshold": (0.2, Threshold),
        "factor": (1.0, Factor),
        "entropy": (0.1, EntropyBound),
        "topk": (2.0, lambda x: TopK(int(x))),
    }
    if rule not in makers:
        raise ConfigError(f"unknown rule {rule!r}: use {', '.join(makers)}")
    default, make = makers[rule]
    number = default if level is None else level
    if not 0 <= number < float("inf") or (rule == "threshold" and number > 1) or (rule == "topk" and number < 1):
        raise RequestError(f"rule {rule} cannot work with {number}")
    if steps is None:
        steps = 1 if rule == "threshold" else ROWS
    if gate is None:
        gate = 0.1 if rule == "threshold" else 0.0
    return Diffusion(make(number), block, steps, correct, accept, gate)
