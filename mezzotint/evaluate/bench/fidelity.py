"""How far a fast backend is from the network it stands for, token by token under teacher forcing.

Both sides read the same answers; at every position the reference's distribution p and the backend's q are compared:
KL(p || q) in nats, and whether the likeliest token is the same.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mezzotint.checkpoints import Checkpoint
from mezzotint.denoisers.causal_network import CausalNetwork, prefill
from mezzotint.evaluate.bench.text_statistics import Estimate, Floats, Logits, bootstrap, wilson

ROWS = 32
"""Positions compared at once: a vocabulary of 50,000 in 64 bits takes 13 MB per 32 rows."""


@dataclass(frozen=True, slots=True)
class Fidelity:
    """A backend against its reference."""

    tokens: int
    kl: Estimate
    """Mean over positions, interval over sequences, nats per token."""
    kl_99: float
    """99th percentile of single positions, nats."""
    greedy: Estimate
    """Share of positions with the same likeliest token."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values for a record."""
        return {
            "tokens": self.tokens,
            "kl_nats_per_token": self.kl.to_dict(),
            "kl_99_percentile": self.kl_99,
            "greedy_agreement": self.greedy.to_dict(),
        }


def compare(reference: Logits, backend: Logits, sequences: Sequence[tuple[Sequence[int], Sequence[int]]]) -> Fidelity:
    """Compare two networks where they predict the answers.

    Args:
        reference: token ids -> Float[N, V].
        backend: the same, to be judged.
        sequences: (prompt, answer) in token ids; positions that predict an answer token count.
    """
    divergences, same = [], 0
    for prompt, answer in sequences:
        if not answer:
            continue
        tokens = [*prompt, *answer[:-1]]
        ours, theirs = (side(tokens)[len(prompt) - 1 :] for side in (reference, backend))
        divergences.append(divergence(ours, theirs))
        same += int((ours.argmax(-1) == theirs.argmax(-1)).sum())
    every = np.concatenate(divergences) if divergences else np.zeros(0)
    return Fidelity(
        tokens=len(every),
        kl=bootstrap([d.sum() for d in divergences], [len(d) for d in divergences]),
        kl_99=float(np.quantile(every, 0.99)) if len(every) else 0.0,
        greedy=wilson(same, len(every)),
    )


def divergence(reference: Floats, backend: Floats) -> Floats:
    """KL(softmax(reference) || softmax(backend)) of each row of Float[N, V], Float[N] nats."""
    parts = []
    for at in range(0, len(reference), ROWS):
        log_p, log_q = (_log_softmax(side[at : at + ROWS]) for side in (reference, backend))
        parts.append((np.exp(log_p) * (log_p - log_q)).sum(-1))
    return np.concatenate(parts) if parts else np.zeros(0)


def torch_logits(checkpoint: Checkpoint, threads: int) -> Logits:
    """The reference: the checkpoint's network in PyTorch, 32 bits."""
    import torch

    from mezzotint.denoisers.load import load_decoder

    torch.set_num_threads(threads)
    decoder = load_decoder(checkpoint, torch.float32)

    def logits(tokens: Sequence[int]) -> Floats:
        with torch.inference_mode():
            found = decoder(torch.tensor([list(tokens)])).logits
        assert found is not None, "the head was asked for"
        return found[0].numpy()

    return logits


def native_logits(checkpoint: Checkpoint, threads: int, capacity: int = 2048) -> Logits:
    """The native kernels, reading a text as they read a prompt."""
    from mezzotint.denoisers.native.decoder import NativeDecoder
    from mezzotint.denoisers.native.runtime import ThreadPool

    return causal_logits(NativeDecoder(checkpoint, ThreadPool(threads), capacity))


def causal_logits(network: CausalNetwork) -> Logits:
    """A network with a cache as a function of whole texts; what the cache held is forgotten."""

    def logits(tokens: Sequence[int]) -> Floats:
        network.truncate(0)
        hidden, _ = prefill(network, tokens)
        return np.concatenate([network.logits(hidden[at : at + ROWS]).copy() for at in range(0, len(hidden), ROWS)])

    return logits


def _log_softmax(rows: Floats) -> Floats:
    wide = rows.astype(np.float64)
    wide -= wide.max(-1, keepdims=True)
    return wide - np.log(np.exp(wide).sum(-1, keepdims=True))
